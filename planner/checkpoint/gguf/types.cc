#include "planner/checkpoint/gguf/types.h"

#include <iterator>
#include <string_view>

namespace berth {
namespace {

struct GgmlType {
  std::string_view name;
  std::optional<DType> dtype;  // nothing: a type whose blocks nobody knows any more
};

// By number: enum ggml_type of ggml.h. Q4_2 and Q4_3 were removed in 2023; files of the repacked
// types (Q4_0_4_4 and the like) are no longer written, but there are many.
constexpr GgmlType kTypes[] = {{"F32", DType::kF32},
                               {"F16", DType::kF16},
                               {"Q4_0", DType::kQ4_0},
                               {"Q4_1", DType::kQ4_1},
                               {"Q4_2", {}},
                               {"Q4_3", {}},
                               {"Q5_0", DType::kQ5_0},
                               {"Q5_1", DType::kQ5_1},
                               {"Q8_0", DType::kQ8_0},
                               {"Q8_1", DType::kQ8_1},
                               {"Q2_K", DType::kQ2_K},
                               {"Q3_K", DType::kQ3_K},
                               {"Q4_K", DType::kQ4_K},
                               {"Q5_K", DType::kQ5_K},
                               {"Q6_K", DType::kQ6_K},
                               {"Q8_K", DType::kQ8_K},
                               {"IQ2_XXS", DType::kIQ2_XXS},
                               {"IQ2_XS", DType::kIQ2_XS},
                               {"IQ3_XXS", DType::kIQ3_XXS},
                               {"IQ1_S", DType::kIQ1_S},
                               {"IQ4_NL", DType::kIQ4_NL},
                               {"IQ3_S", DType::kIQ3_S},
                               {"IQ2_S", DType::kIQ2_S},
                               {"IQ4_XS", DType::kIQ4_XS},
                               {"I8", DType::kI8},
                               {"I16", DType::kI16},
                               {"I32", DType::kI32},
                               {"I64", DType::kI64},
                               {"F64", DType::kF64},
                               {"IQ1_M", DType::kIQ1_M},
                               {"BF16", DType::kBF16},
                               {"Q4_0_4_4", DType::kQ4_0_4_4},
                               {"Q4_0_4_8", DType::kQ4_0_4_8},
                               {"Q4_0_8_8", DType::kQ4_0_8_8},
                               {"TQ1_0", DType::kTQ1_0},
                               {"TQ2_0", DType::kTQ2_0},
                               {"IQ4_NL_4_4", DType::kIQ4_NL_4_4},
                               {"IQ4_NL_4_8", DType::kIQ4_NL_4_8},
                               {"IQ4_NL_8_8", DType::kIQ4_NL_8_8},
                               {"MXFP4", DType::kMXFP4},
                               {"NVFP4", DType::kNVFP4},
                               {"Q1_0", DType::kQ1_0}};

}  // namespace

std::optional<DType> dtype_of_ggml(std::uint32_t type) {
  return type < std::size(kTypes) ? kTypes[type].dtype : std::nullopt;
}

std::optional<std::uint32_t> ggml_type_of(DType dtype) {
  for (std::uint32_t type = 0; type < std::size(kTypes); ++type) {
    if (kTypes[type].dtype == dtype) return type;
  }
  return std::nullopt;
}

std::string ggml_type_name(std::uint32_t type) {
  return type < std::size(kTypes) ? std::string(kTypes[type].name) : std::to_string(type);
}

}  // namespace berth

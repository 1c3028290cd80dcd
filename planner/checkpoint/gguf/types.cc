#include "planner/checkpoint/gguf/types.h"

#include <iterator>
#include <string_view>

namespace berth {
namespace {

struct GgmlType {
  std::string_view name;  // empty: ggml does not use the number, or no longer
  std::optional<DType> dtype;
};

// By number: enum ggml_type of ggml.h.
constexpr GgmlType kTypes[] = {
    {"F32", DType::kF32},   {"F16", DType::kF16},   {"Q4_0", DType::kQ4_0}, {"Q4_1", DType::kQ4_1},
    {"Q4_2", {}},           {"Q4_3", {}},           {"Q5_0", DType::kQ5_0}, {"Q5_1", DType::kQ5_1},
    {"Q8_0", DType::kQ8_0}, {"Q8_1", {}},           {"Q2_K", {}},           {"Q3_K", {}},
    {"Q4_K", DType::kQ4_K}, {"Q5_K", DType::kQ5_K}, {"Q6_K", DType::kQ6_K}, {"Q8_K", {}},
    {"IQ2_XXS", {}},        {"IQ2_XS", {}},         {"IQ3_XXS", {}},        {"IQ1_S", {}},
    {"IQ4_NL", {}},         {"IQ3_S", {}},          {"IQ2_S", {}},          {"IQ4_XS", {}},
    {"I8", DType::kI8},     {"I16", DType::kI16},   {"I32", DType::kI32},   {"I64", DType::kI64},
    {"F64", DType::kF64},   {"IQ1_M", {}},          {"BF16", DType::kBF16}, {"Q4_0_4_4", {}},
    {"Q4_0_4_8", {}},       {"Q4_0_8_8", {}},       {"TQ1_0", {}},          {"TQ2_0", {}},
    {"IQ4_NL_4_4", {}},     {"IQ4_NL_4_8", {}},     {"IQ4_NL_8_8", {}},     {"MXFP4", {}},
    {"NVFP4", {}},
};

}  // namespace

std::optional<DType> dtype_of_ggml(std::uint32_t type) {
  return type < std::size(kTypes) ? kTypes[type].dtype : std::nullopt;
}

std::string ggml_type_name(std::uint32_t type) {
  return type < std::size(kTypes) ? std::string(kTypes[type].name) : std::to_string(type);
}

}  // namespace berth

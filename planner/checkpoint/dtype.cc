#include <algorithm>
#include <array>

#include "berth/tensor.h"

namespace berth {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  std::string_view torch;
};

// In the order of the enum. F4 is stored packed, two elements to a byte; torch's name is that of
// the pair.
constexpr std::array kRows = {
    Row{DType::kBool, "BOOL", "bool"},
    Row{DType::kU8, "U8", "uint8"},
    Row{DType::kI8, "I8", "int8"},
    Row{DType::kF8E5M2, "F8_E5M2", "float8_e5m2"},
    Row{DType::kF8E4M3, "F8_E4M3", "float8_e4m3fn"},
    Row{DType::kF8E8M0, "F8_E8M0", "float8_e8m0fnu"},
    Row{DType::kF8E4M3FNUZ, "F8_E4M3FNUZ", "float8_e4m3fnuz"},
    Row{DType::kF8E5M2FNUZ, "F8_E5M2FNUZ", "float8_e5m2fnuz"},
    Row{DType::kF4, "F4", "float4_e2m1fn_x2"},
    Row{DType::kF6E2M3, "F6_E2M3", ""},
    Row{DType::kF6E3M2, "F6_E3M2", ""},
    Row{DType::kI16, "I16", "int16"},
    Row{DType::kU16, "U16", "uint16"},
    Row{DType::kF16, "F16", "float16"},
    Row{DType::kBF16, "BF16", "bfloat16"},
    Row{DType::kI32, "I32", "int32"},
    Row{DType::kU32, "U32", "uint32"},
    Row{DType::kF32, "F32", "float32"},
    Row{DType::kC64, "C64", "complex64"},
    Row{DType::kF64, "F64", "float64"},
    Row{DType::kI64, "I64", "int64"},
    Row{DType::kU64, "U64", "uint64"},
    Row{DType::kQ4_0, "Q4_0", ""},
    Row{DType::kQ4_1, "Q4_1", ""},
    Row{DType::kQ5_0, "Q5_0", ""},
    Row{DType::kQ5_1, "Q5_1", ""},
    Row{DType::kQ8_0, "Q8_0", ""},
    Row{DType::kQ4_K, "Q4_K", ""},
    Row{DType::kQ5_K, "Q5_K", ""},
    Row{DType::kQ6_K, "Q6_K", ""},
    Row{DType::kQ8_1, "Q8_1", ""},
    Row{DType::kQ2_K, "Q2_K", ""},
    Row{DType::kQ3_K, "Q3_K", ""},
    Row{DType::kQ8_K, "Q8_K", ""},
    Row{DType::kIQ2_XXS, "IQ2_XXS", ""},
    Row{DType::kIQ2_XS, "IQ2_XS", ""},
    Row{DType::kIQ3_XXS, "IQ3_XXS", ""},
    Row{DType::kIQ1_S, "IQ1_S", ""},
    Row{DType::kIQ4_NL, "IQ4_NL", ""},
    Row{DType::kIQ3_S, "IQ3_S", ""},
    Row{DType::kIQ2_S, "IQ2_S", ""},
    Row{DType::kIQ4_XS, "IQ4_XS", ""},
    Row{DType::kIQ1_M, "IQ1_M", ""},
    Row{DType::kQ4_0_4_4, "Q4_0_4_4", ""},
    Row{DType::kQ4_0_4_8, "Q4_0_4_8", ""},
    Row{DType::kQ4_0_8_8, "Q4_0_8_8", ""},
    Row{DType::kTQ1_0, "TQ1_0", ""},
    Row{DType::kTQ2_0, "TQ2_0", ""},
    Row{DType::kIQ4_NL_4_4, "IQ4_NL_4_4", ""},
    Row{DType::kIQ4_NL_4_8, "IQ4_NL_4_8", ""},
    Row{DType::kIQ4_NL_8_8, "IQ4_NL_8_8", ""},
    Row{DType::kMXFP4, "MXFP4", ""},
    Row{DType::kNVFP4, "NVFP4", ""},
    Row{DType::kQ1_0, "Q1_0", ""},
    Row{DType::kU4G32, "U4_G32", ""},
    Row{DType::kU4G64, "U4_G64", ""},
    Row{DType::kU4G128, "U4_G128", ""},
    Row{DType::kF8E4M3G32, "F8_E4M3_G32", ""},
    Row{DType::kF8E4M3G64, "F8_E4M3_G64", ""},
    Row{DType::kF8E4M3G128, "F8_E4M3_G128", ""},
    Row{DType::kF8E5M2G32, "F8_E5M2_G32", ""},
    Row{DType::kF8E5M2G64, "F8_E5M2_G64", ""},
    Row{DType::kF8E5M2G128, "F8_E5M2_G128", ""},
};

static_assert(kRows.size() == static_cast<std::size_t>(kLastDType) + 1);
static_assert(std::ranges::all_of(kRows, [](const Row& row) {
  return &row - kRows.data() == static_cast<std::ptrdiff_t>(row.dtype);
}));

const Row& row_of(DType dtype) { return kRows[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
std::string_view torch_dtype_name(DType dtype) { return row_of(dtype).torch; }

std::optional<DType> parse_dtype(std::string_view name) {
  const auto* row = std::ranges::find(kRows, name, &Row::name);
  if (row == kRows.end() || is_block_format(row->dtype)) return std::nullopt;
  return row->dtype;
}

std::optional<DType> parse_torch_dtype(std::string_view name) {
  constexpr std::string_view kPrefix = "torch.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  if (name.empty()) return std::nullopt;
  if (name == "half") return DType::kF16;
  if (name == "float") return DType::kF32;
  if (name == "double") return DType::kF64;
  const auto* row = std::ranges::find(kRows, name, &Row::torch);
  return row == kRows.end() ? std::nullopt : std::optional(row->dtype);
}

std::string weight_format_name(DType dtype) {
  if (const std::string_view torch = torch_dtype_name(dtype); !torch.empty()) {
    return std::string(torch);
  }
  std::string name(dtype_name(dtype));
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return name;
}

DType timed_as(DType dtype) {
  if (!is_grouped_format(dtype)) return dtype;
  return dtype <= DType::kU4G128 ? DType::kU4G128 : DType::kF8E4M3G128;
}

bool is_convertible(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32 ||
         dtype == DType::kF64;
}

bool can_convert(DType from, DType to) {
  return from == to || (is_convertible(to) && (is_convertible(from) || is_decodable(from)));
}

}  // namespace berth

#include "runtime/quant/quant_layout.h"

#include <algorithm>
#include <string>
#include <vector>

#include "berth/error.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/quant/read_part.h"

namespace berth {
namespace {

constexpr float kBnbHundredTwentySeventh = 7.874015718698502e-3f;  // as bitsandbytes writes 1 / 127
constexpr std::uint64_t kBnbBlock = 64;                            // values that share a scale
constexpr std::uint64_t kMxBlock = 32;  // values that share a scale (OCP MX formats)
constexpr std::uint64_t kWord = 32;     // bits

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

QuantCode unsigned_code(unsigned bits) {
  return bits == 8 ? QuantCode::kU8 : bits == 2 ? QuantCode::kU2 : QuantCode::kU4;
}

// The format that the reference implementations compute in: that of the scales.
FloatFormat arithmetic_of(DType scales) {
  return scales == DType::kBF16  ? FloatFormat::kBF16
         : scales == DType::kF16 ? FloatFormat::kF16
                                 : FloatFormat::kF32;
}

// Sets which values share a scale, for scales whose rows are those of the outputs: their shape is
// [rows / block_rows, columns / group].
void set_grain(const QuantScheme& scheme, QuantLayout& layout) {
  const std::uint64_t all = std::max<std::uint64_t>(1, layout.columns);
  const std::uint64_t group = scheme.group == 0 ? all : scheme.group;
  layout.group_columns = all;
  switch (scheme.grain) {
    case ScaleGrain::kTensor:
    case ScaleGrain::kUnscaled:
      return;
    case ScaleGrain::kRow:
      layout.row_step = 1;
      return;
    case ScaleGrain::kTile:
      layout.block_rows = std::max<std::uint64_t>(1, scheme.block_rows);
      [[fallthrough]];
    case ScaleGrain::kGroup:
      layout.group_columns = group;
      layout.row_step = ceil_div(layout.columns, group);
      layout.group_step = 1;
  }
}

// Rows of scales are padded (AutoAWQ's calculate_zeros_width).
std::uint64_t gemv_scales_in_a_row(const QuantScheme& scheme, const Shape& shape) {
  const std::vector<QuantPart> parts = quant_parts(scheme, "weight", shape, /*transposed=*/false);
  return std::ranges::find(parts, "scales", &QuantPart::name)->shape[1];
}

}  // namespace

QuantCode byte_code(DType dtype) {
  switch (dtype) {
    case DType::kF8E5M2:
      return QuantCode::kF8E5M2;
    case DType::kF8E4M3FNUZ:
      return QuantCode::kF8E4M3FNUZ;
    case DType::kF8E5M2FNUZ:
      return QuantCode::kF8E5M2FNUZ;
    case DType::kI8:
      return QuantCode::kI8;
    default:
      return QuantCode::kF8E4M3;
  }
}

std::uint64_t count_scales(const QuantLayout& layout) {
  if (layout.rows == 0 || layout.columns == 0) return 0;
  return (layout.rows - 1) / layout.block_rows * layout.row_step +
         (layout.columns - 1) / layout.group_columns * layout.group_step + 1;
}

QuantLayout quant_layout(const ModelTree& tree, TensorId id, std::uint32_t source,
                         const Checkpoint& checkpoint) {
  const ModelTensor& tensor = tree.tensors[id];
  const Dequantization& made = tree.quantized->weights[tensor.dequantization];
  const QuantScheme& scheme = tree.quantized->schemes[made.scheme];
  const TensorInfo& packed = checkpoint.tensors[source];
  const std::uint32_t scale_source = made.part(QuantRole::kScale);
  const TensorInfo* scales =
      scale_source < checkpoint.tensors.size() ? &checkpoint.tensors[scale_source] : nullptr;
  QuantLayout layout;
  const bool matrix = tensor.shape.size() == 2;
  layout.rows = matrix ? tensor.shape[0] : 1;
  layout.columns = matrix ? tensor.shape[1] : tensor.elements();
  layout.row_values = layout.columns;
  const auto arithmetic = scales ? arithmetic_of(scales->dtype) : FloatFormat::kF32;
  const std::uint64_t a_word = kWord / std::max(1u, scheme.bits);
  switch (scheme.format) {
    case QuantFormat::kScaled:
      layout.code = byte_code(packed.dtype);
      set_grain(scheme, layout);
      // DeepSeek and transformers compute in f32, compressed-tensors in the type of the scales.
      if (scheme.scale_name != "_scale_inv") layout.arithmetic = arithmetic;
      break;
    case QuantFormat::kGptq:
    case QuantFormat::kAwq:
      layout.order = scheme.format == QuantFormat::kGptq ? QuantOrder::kGptq : QuantOrder::kAwq;
      layout.code = unsigned_code(scheme.bits);
      layout.group_columns = scheme.group == 0 ? layout.columns : scheme.group;
      layout.row_step = 1;
      layout.group_step = layout.rows;
      layout.arithmetic = arithmetic;
      break;
    case QuantFormat::kAwqGemv:
      layout.code = QuantCode::kU4;
      layout.row_values = ceil_div(layout.columns, a_word) * a_word;
      layout.group_columns = scheme.group == 0 ? layout.columns : scheme.group;
      layout.row_step = gemv_scales_in_a_row(scheme, tensor.shape);
      layout.group_step = 1;
      layout.arithmetic = arithmetic;
      break;
    case QuantFormat::kPacked:
      layout.code = unsigned_code(scheme.bits);
      layout.row_values = ceil_div(layout.columns, a_word) * a_word;
      set_grain(scheme, layout);
      layout.zero = static_cast<float>(1u << (scheme.bits - 1));
      layout.arithmetic = arithmetic;
      break;
    case QuantFormat::kPackedFloat:
    case QuantFormat::kModelOptFp4:
      layout.code = QuantCode::kF4;
      layout.row_values = ceil_div(layout.columns, 2) * 2;
      layout.group_columns = scheme.group == 0 ? layout.columns : scheme.group;
      layout.row_step = ceil_div(layout.columns, layout.group_columns);
      layout.group_step = 1;
      if (scheme.format == QuantFormat::kPackedFloat) layout.arithmetic = FloatFormat::kBF16;
      break;
    case QuantFormat::kBnb4:
      layout.order = QuantOrder::kRowsHigh;
      layout.code = QuantCode::kLookup4;
      layout.rows = 1;
      layout.columns = layout.row_values = tensor.elements();
      layout.group_columns = kBnbBlock;
      layout.group_step = 1;
      break;
    case QuantFormat::kBnb8:
      layout.code = QuantCode::kI8;
      layout.row_step = 1;
      layout.group_columns = layout.columns;
      layout.factor = kBnbHundredTwentySeventh;
      break;
    case QuantFormat::kMxfp4:
      layout.order = QuantOrder::kExperts;
      layout.code = QuantCode::kF4;
      layout.expert_rows = tensor.shape[2];
      layout.rows = tensor.shape[0] * tensor.shape[2];
      layout.columns = tensor.shape[1];
      layout.group_columns = kMxBlock;
      layout.row_step = layout.columns / kMxBlock;
      layout.group_step = 1;
      break;
  }
  layout.group_columns = std::max<std::uint64_t>(1, layout.group_columns);
  if (!can_dequantize(layout)) {
    throw Error(position_of(checkpoint, source) + scheme_label(scheme) +
                " weights cannot be dequantised");
  }
  return layout;
}

}  // namespace berth

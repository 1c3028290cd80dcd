#include "runtime/quant/weight_tables.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "berth/error.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/reader.h"
#include "runtime/quant/float_format.h"

namespace berth {
namespace {

constexpr float kBnbHundredTwentySeventh = 7.874015718698502e-3f;  // as bitsandbytes writes 1 / 127
constexpr std::uint64_t kBnbBlock = 64;                            // values that share a scale
// How many scales share a scale of theirs, and also how many codes there are for scales.
constexpr std::uint64_t kBnbNested = 256;
constexpr std::uint64_t kMxBlock = 32;  // values that share a scale (OCP MX formats)
constexpr std::uint64_t kWord = 32;     // bits

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// The beginning of an error about a stored tensor.
std::string position_of(const Checkpoint& checkpoint, std::uint32_t source) {
  const TensorInfo& info = checkpoint.tensors[source];
  return checkpoint.shards[info.shard].path.string() + ": tensor '" + info.name + "': ";
}

std::uint64_t count_of(const TensorInfo& info) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : info.shape) count *= size;
  return count;
}

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

// Converts the numbers of a stored tensor to f32.
void widen(DType dtype, const std::byte* from, std::uint64_t count, float* to) {
  if (is_convertible(dtype)) {
    cast_on_host(from, float_format(dtype), to, FloatFormat::kF32, count);
  } else if (dtype == DType::kU8 || dtype == DType::kF8E8M0) {
    // Exponents of powers of two. For 255 transformers makes infinity out of a U8; the type F8E8M0
    // defines it as NaN.
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto exponent = std::to_integer<std::uint32_t>(from[i]);
      std::uint32_t bits = exponent == 0 ? 0x00400000u : exponent << 23;
      if (exponent == 255 && dtype == DType::kF8E8M0) bits = 0x7FC00000u;
      std::memcpy(to + i, &bits, sizeof bits);
    }
  } else {
    QuantLayout plain;
    plain.code = byte_code(dtype);
    plain.rows = 1;
    plain.columns = plain.row_values = count;
    dequantize_on_host(plain, {}, from, 0, count, to, FloatFormat::kF32);
  }
}

// A part of the weight as it was read.
struct Part {
  const TensorInfo* info = nullptr;
  HostArena memory;
  const std::byte* data = nullptr;

  explicit operator bool() const { return info != nullptr; }
  std::uint64_t count() const { return count_of(*info); }
  std::uint32_t word(std::uint64_t index) const {
    std::uint32_t word = 0;
    std::memcpy(&word, data + 4 * index, sizeof word);
    return word;
  }
};

// Reads the parts of one weight and makes the tables out of them.
class TableBuilder {
 public:
  TableBuilder(const Checkpoint& checkpoint, const PackedWeight& weight, const QuantScheme& scheme,
               const ReadRange& read)
      : checkpoint_(checkpoint), weight_(weight), scheme_(scheme), read_(read) {}

  // Reads the part for `role`; one that is false where the weight has none.
  Part part(QuantRole role) const {
    Part part;
    const std::uint32_t source = weight_.made.part(role);
    if (source >= checkpoint_.tensors.size()) return part;
    part.info = &checkpoint_.tensors[source];
    const std::uint64_t begin = part.info->begin;
    const std::uint64_t end = part.info->end;
    part.memory = HostArena(block_up(end) - block_down(begin), "tensor '" + part.info->name + "'");
    part.data = part.memory.data() + begin % kBlock;
    if (end > begin) read_(part.info->shard, begin, end, part.memory.data() + begin % kBlock);
    return part;
  }

  void fill_scales(const Part& scales, float* to) const {
    if (scheme_.nested) return fill_nested(scales, to);
    widen(scales.info->dtype, scales.data, scales.count(), to);
    const Part global = part(QuantRole::kGlobalScale);
    if (!global) return;
    float all = 1;
    if (global.count() != 1) fail(QuantRole::kGlobalScale, "must hold one number");
    widen(global.info->dtype, global.data, 1, &all);
    // compressed-tensors stores the factor that the scales were multiplied by, so we divide;
    // ModelOpt stores the factor that they must be multiplied by.
    const bool divides = scheme_.format == QuantFormat::kPackedFloat;
    for (std::uint64_t i = 0; i < scales.count(); ++i) to[i] = divides ? to[i] / all : to[i] * all;
  }

  void fill_zeros(const Part& zeros, std::uint64_t count, float* to) const {
    const QuantLayout& layout = weight_.layout;
    const std::uint64_t rows = layout.rows;
    const unsigned bits = scheme_.bits;
    const std::uint64_t a_word = kWord / bits;
    const std::uint32_t mask = (1u << bits) - 1;
    switch (scheme_.format) {
      case QuantFormat::kGptq: {
        // AutoGPTQ stores the zero point less one, modulo 2^bits: a zero point of 0 is stored as
        // the largest value.
        const std::uint32_t less = scheme_.zeros_as_stored ? 0 : 1;
        const std::uint64_t words = ceil_div(rows * bits, kWord);
        for (std::uint64_t i = 0; i < count; ++i) {
          const std::uint64_t row = i % rows;
          const std::uint32_t word = zeros.word(i / rows * words + row / a_word);
          to[i] = static_cast<float>(((word >> (row % a_word * bits)) + less) & mask);
        }
        return;
      }
      case QuantFormat::kAwq:
        for (std::uint64_t i = 0; i < count; ++i) {
          const std::uint64_t row = i % rows;
          const std::uint32_t word = zeros.word(i / rows * (rows / 8) + row / 8);
          to[i] = static_cast<float>((word >> ((row & 1) * 16 + (row % 8 >> 1) * 4)) & mask);
        }
        return;
      case QuantFormat::kAwqGemv:  // a row of words a row of scales
        for (std::uint64_t i = 0; i < count; ++i) {
          to[i] = static_cast<float>((zeros.word(i / a_word) >> (i % a_word * bits)) & mask);
        }
        return;
      case QuantFormat::kPacked: {  // packed along the rows
        const std::uint64_t groups = std::max<std::uint64_t>(1, zeros.info->shape.back());
        for (std::uint64_t i = 0; i < count; ++i) {
          const std::uint64_t row = i / groups;
          const std::uint32_t word = zeros.word(row / a_word * groups + i % groups);
          to[i] = static_cast<float>((word >> (row % a_word * bits)) & mask);
        }
        return;
      }
      default:
        for (std::uint64_t i = 0; i < count; ++i) to[i] = whole_number(zeros, i);
    }
  }

  // Fills `to` with the group of each input. Returns false where inputs are in the order of their
  // groups anyway, so that no table is needed.
  bool fill_groups(const Part& order, std::uint32_t* to) const {
    const QuantLayout& layout = weight_.layout;
    const std::uint64_t groups = ceil_div(layout.columns, layout.group_columns);
    bool needed = false;
    for (std::uint64_t i = 0; i < layout.columns; ++i) {
      to[i] = order.word(i);
      if (to[i] >= groups) {
        fail(QuantRole::kOrder, "element " + std::to_string(i) + " is " +
                                    std::to_string(static_cast<std::int32_t>(to[i])) +
                                    ", but there are " + std::to_string(groups) + " groups");
      }
      needed = needed || to[i] != i / layout.group_columns;
    }
    return needed;
  }

  // Throws Error where a part has fewer elements than the layout reaches.
  void require_count(QuantRole role, const Part& part, std::uint64_t least) const {
    if (part.count() >= least) return;
    fail(role, "holds " + std::to_string(part.count()) + " elements, but " + std::to_string(least) +
                   " are needed");
  }

  [[noreturn]] void fail(QuantRole role, const std::string& what) const {
    throw Error(position_of(checkpoint_, weight_.made.part(role)) + what);
  }
  [[noreturn]] void fail_missing(const char* what) const {
    throw Error(position_of(checkpoint_, weight_.source) + "the checkpoint holds no " + what +
                " for it");
  }

 private:
  static float whole_number(const Part& zeros, std::uint64_t index) {
    if (zeros.info->dtype == DType::kI8) {
      return static_cast<float>(std::to_integer<std::int8_t>(zeros.data[index]));
    }
    return static_cast<float>(static_cast<std::int32_t>(zeros.word(index)));
  }

  // bitsandbytes' nested scales: a stored scale is a code, whose value the map tells. That value is
  // multiplied by the scale of its 256 codes; then an offset, the mean of all scales, is added.
  void fill_nested(const Part& codes, float* to) const {
    const Part absmax = part(QuantRole::kNestedScale);
    const Part map = part(QuantRole::kNestedMap);
    if (!absmax || !map) fail_missing("nested scales");
    require_count(QuantRole::kNestedScale, absmax, ceil_div(codes.count(), kBnbNested));
    require_count(QuantRole::kNestedMap, map, kBnbNested);
    std::vector<float> scales(absmax.count());
    std::vector<float> values(map.count());
    widen(absmax.info->dtype, absmax.data, absmax.count(), scales.data());
    widen(map.info->dtype, map.data, map.count(), values.data());
    const float offset = nested_offset();
    for (std::uint64_t i = 0; i < codes.count(); ++i) {
      const float value = values[std::to_integer<std::size_t>(codes.data[i])];
      const float scaled = value * scales[i / kBnbNested];
      to[i] = scaled + offset;
    }
  }

  // The number after "nested_offset" in the JSON text that bitsandbytes stores as a tensor.
  float nested_offset() const {
    const Part state = part(QuantRole::kState);
    if (!state) fail_missing("quant_state");
    const std::string_view text(reinterpret_cast<const char*>(state.data), state.info->bytes());
    constexpr std::string_view kKey = "\"nested_offset\":";
    const std::size_t at = text.find(kKey);
    const std::size_t first =
        at == text.npos ? at : text.find_first_not_of(" \t\n", at + kKey.size());
    double offset = 0;
    if (first == text.npos ||
        std::from_chars(text.data() + first, text.data() + text.size(), offset).ec != std::errc()) {
      fail(QuantRole::kState, "holds no number as nested_offset");
    }
    return static_cast<float>(offset);
  }

  const Checkpoint& checkpoint_;
  const PackedWeight& weight_;
  const QuantScheme& scheme_;
  const ReadRange& read_;
};

// How many scales the layout reaches: the largest index of one, plus one.
std::uint64_t scales_needed(const QuantLayout& layout) {
  if (layout.rows == 0 || layout.columns == 0) return 0;
  return (layout.rows - 1) / layout.block_rows * layout.row_step +
         (layout.columns - 1) / layout.group_columns * layout.group_step + 1;
}

}  // namespace

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
      layout.row_step = scales && scales->shape.size() == 2 ? scales->shape[1] : 0;
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

WeightTables::WeightTables(const Checkpoint& checkpoint, const PackedWeight& weight,
                           const QuantScheme& scheme, const ReadRange& read)
    : layout_(weight.layout) {
  const TableBuilder builder(checkpoint, weight, scheme, read);
  const Part scales = builder.part(QuantRole::kScale);
  if (!scales) {
    if (scheme.format != QuantFormat::kScaled || scheme.grain != ScaleGrain::kUnscaled) {
      builder.fail_missing("scales");
    }
    return;
  }
  const std::uint64_t count = scales.count();
  builder.require_count(QuantRole::kScale, scales, scales_needed(layout_));
  const Part zeros = builder.part(QuantRole::kZero);
  const Part order = builder.part(QuantRole::kOrder);
  const Part map = builder.part(QuantRole::kMap);
  const auto take = [this](std::uint64_t elements) {
    const std::uint64_t at = bytes_;
    bytes_ += 4 * elements;
    return at;
  };
  scales_ = take(count);
  if (zeros) zeros_ = take(count);
  if (order) groups_ = take(layout_.columns);
  if (map) lookup_ = take(16);
  memory_ = HostArena(bytes_, "the scales of a quantised weight");
  const auto floats = [this](std::uint64_t at) {
    return reinterpret_cast<float*>(memory_.data() + at);
  };
  builder.fill_scales(scales, floats(scales_));
  if (zeros) builder.fill_zeros(zeros, count, floats(zeros_));
  if (order) {
    builder.require_count(QuantRole::kOrder, order, layout_.columns);
    auto* groups = reinterpret_cast<std::uint32_t*>(memory_.data() + groups_);
    if (!builder.fill_groups(order, groups)) groups_ = kAbsent;
  }
  if (map) {
    builder.require_count(QuantRole::kMap, map, 16);
    widen(map.info->dtype, map.data, 16, floats(lookup_));
  } else if (layout_.code == QuantCode::kLookup4) {
    builder.fail_missing("quant_map");
  }
}

QuantTables WeightTables::at(const std::byte* base) const {
  const auto floats = [&](std::uint64_t at) {
    return at == kAbsent ? nullptr : reinterpret_cast<const float*>(base + at);
  };
  QuantTables tables;
  tables.scales = floats(scales_);
  tables.zeros = floats(zeros_);
  tables.lookup = floats(lookup_);
  if (groups_ != kAbsent) tables.groups = reinterpret_cast<const std::uint32_t*>(base + groups_);
  return tables;
}

}  // namespace berth

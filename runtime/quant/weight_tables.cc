#include "runtime/quant/weight_tables.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/quant/float_format.h"
#include "runtime/quant/quant_layout.h"

namespace berth {
namespace {

// How many scales share a scale of theirs, and also how many codes there are for scales.
constexpr std::uint64_t kBnbNested = 256;

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

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

// Reads the parts of one weight and makes the tables out of them.
class TableBuilder {
 public:
  TableBuilder(const Checkpoint& checkpoint, const PackedWeight& weight, const QuantScheme& scheme,
               const ReadRange& read)
      : checkpoint_(checkpoint), weight_(weight), scheme_(scheme), read_(read) {}

  // Reads the part for `role`; one that is false where the weight has none.
  ReadPart part(QuantRole role) const {
    return read_part(checkpoint_, weight_.made.part(role), read_);
  }

  void fill_scales(const ReadPart& scales, float* to) const {
    if (scheme_.nested) return fill_nested(scales, to);
    widen(scales.dtype, scales.data, scales.count, to);
    const ReadPart global = part(QuantRole::kGlobalScale);
    if (!global) return;
    float all = 1;
    if (global.count != 1) throw Error(global.position + "must hold one number");
    widen(global.dtype, global.data, 1, &all);
    // compressed-tensors stores the factor that the scales were multiplied by, so we divide;
    // ModelOpt stores the factor that they must be multiplied by.
    const bool divides = scheme_.format == QuantFormat::kPackedFloat;
    for (std::uint64_t i = 0; i < scales.count; ++i) to[i] = divides ? to[i] / all : to[i] * all;
  }

  // Fills `to` with the group of each input. Returns false where inputs are in the order of their
  // groups anyway, so that no table is needed.
  bool fill_groups(const ReadPart& order, std::uint32_t* to) const {
    const QuantLayout& layout = weight_.layout;
    order.require(layout.columns);
    const std::uint64_t groups = ceil_div(layout.columns, layout.group_columns);
    bool needed = false;
    for (std::uint64_t i = 0; i < layout.columns; ++i) {
      to[i] = order.word(i);
      if (to[i] >= groups) {
        throw Error(order.position + "element " + std::to_string(i) + " is " +
                    std::to_string(static_cast<std::int32_t>(to[i])) + ", but there are " +
                    std::to_string(groups) + " groups");
      }
      needed = needed || to[i] != i / layout.group_columns;
    }
    return needed;
  }

  [[noreturn]] void fail_missing(const char* what) const {
    throw Error(position_of(checkpoint_, weight_.source) + "the checkpoint holds no " + what +
                " for it");
  }

 private:
  // bitsandbytes' nested scales: a stored scale is a code, whose value the map tells. That value is
  // multiplied by the scale of its 256 codes; then an offset, the mean of all scales, is added.
  void fill_nested(const ReadPart& codes, float* to) const {
    const ReadPart absmax = part(QuantRole::kNestedScale);
    const ReadPart map = part(QuantRole::kNestedMap);
    if (!absmax || !map) fail_missing("nested scales");
    absmax.require(ceil_div(codes.count, kBnbNested));
    map.require(kBnbNested);
    std::vector<float> scales(absmax.count);
    std::vector<float> values(map.count);
    widen(absmax.dtype, absmax.data, absmax.count, scales.data());
    widen(map.dtype, map.data, map.count, values.data());
    const float offset = nested_offset();
    for (std::uint64_t i = 0; i < codes.count; ++i) {
      const float value = values[std::to_integer<std::size_t>(codes.data[i])];
      const float scaled = value * scales[i / kBnbNested];
      to[i] = scaled + offset;
    }
  }

  // The number after "nested_offset" in the JSON text that bitsandbytes stores as a tensor.
  float nested_offset() const {
    const ReadPart state = part(QuantRole::kState);
    if (!state) fail_missing("quant_state");
    const std::string_view text(reinterpret_cast<const char*>(state.data), state.count);
    constexpr std::string_view kKey = "\"nested_offset\":";
    const std::size_t at = text.find(kKey);
    const std::size_t first =
        at == text.npos ? at : text.find_first_not_of(" \t\n", at + kKey.size());
    double offset = 0;
    if (first == text.npos ||
        std::from_chars(text.data() + first, text.data() + text.size(), offset).ec != std::errc()) {
      throw Error(state.position + "holds no number as nested_offset");
    }
    return static_cast<float>(offset);
  }

  const Checkpoint& checkpoint_;
  const PackedWeight& weight_;
  const QuantScheme& scheme_;
  const ReadRange& read_;
};

}  // namespace

WeightTables::WeightTables(const Checkpoint& checkpoint, const PackedWeight& weight,
                           const QuantScheme& scheme, const ReadRange& read)
    : layout_(weight.layout) {
  const TableBuilder builder(checkpoint, weight, scheme, read);
  const ReadPart scales = builder.part(QuantRole::kScale);
  if (!scales) {
    if (scheme.format != QuantFormat::kScaled || scheme.grain != ScaleGrain::kUnscaled) {
      builder.fail_missing("scales");
    }
    return;
  }
  scales.require(count_scales(layout_));
  const ReadPart zeros = builder.part(QuantRole::kZero);
  const ReadPart order = builder.part(QuantRole::kOrder);
  const ReadPart map = builder.part(QuantRole::kMap);
  const auto take = [this](std::uint64_t elements) {
    const std::uint64_t at = bytes_;
    bytes_ += 4 * elements;
    return at;
  };
  scales_ = take(scales.count);
  if (zeros) zeros_ = take(scales.count);
  if (order) groups_ = take(layout_.columns);
  if (map) lookup_ = take(16);
  memory_ = HostArena(bytes_, "the scales of a quantised weight");
  const auto floats = [this](std::uint64_t at) {
    return reinterpret_cast<float*>(memory_.data() + at);
  };
  builder.fill_scales(scales, floats(scales_));
  if (zeros) {
    zero_points_ = read_zero_points(scheme, layout_, zeros, {floats(zeros_), scales.count});
  }
  if (order) {
    auto* groups = reinterpret_cast<std::uint32_t*>(memory_.data() + groups_);
    if (!builder.fill_groups(order, groups)) groups_ = kAbsent;
  }
  if (map) {
    map.require(16);
    widen(map.dtype, map.data, 16, floats(lookup_));
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

#include "runtime/kernels/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/cast_bits.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

constexpr float kMost16 = 32639;  // 256 x 127 + 127: both planes fit a signed byte
constexpr float kMost8 = 127;

float limit_of(ActivationBits bits) { return bits == ActivationBits::k8 ? kMost8 : kMost16; }

}  // namespace

ActivationBlock quantize_reference(const float* values, MatrixFormat format, ActivationBits bits) {
  ActivationBlock block{};
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    most = std::max(most, std::fabs(values[i]));
    finite = finite && std::isfinite(values[i]);
  }
  if (!finite) {
    block.scale = block.total = std::numeric_limits<float>::quiet_NaN();
    return block;
  }
  const TileShape shape = tile_shape(format);
  const float limit = limit_of(bits);
  block.scale = most / limit;
  if (block.scale < kLeastActivationScale) {  // all zero, or too small to tell
    block.scale = 0;
    return block;
  }
  const float inverse = 1 / block.scale;
  if (bits == ActivationBits::k24) block.rest_scale = block.scale / kRestParts;
  std::int32_t sums[2] = {};
  std::int32_t rests[2] = {};
  for (std::size_t i = 0; i < 32; ++i) {
    // The division of a denormal scale may round up: stay within the planes.
    const float exact = std::clamp(values[i] * inverse, -limit, limit);
    const float rounded = std::nearbyintf(exact);
    const auto q = static_cast<std::int32_t>(rounded);
    block.low[i] = static_cast<std::int8_t>(q);
    block.high[i] = static_cast<std::int8_t>((q - block.low[i]) >> 8);
    sums[i / shape.scaled] += q;
    if (bits != ActivationBits::k24) continue;
    block.rest[i] = static_cast<std::int8_t>(std::nearbyintf((exact - rounded) * kRestParts));
    rests[i / shape.scaled] += block.rest[i];
  }
  block.total = block.scale * static_cast<float>(sums[0] + sums[1]) +
                block.rest_scale * static_cast<float>(rests[0] + rests[1]);
  for (int i = 0; i < 2; ++i) {
    block.offsets[i] = -shape.bias * sums[i];
    block.rest_offsets[i] = -shape.bias * rests[i];
  }
  return block;
}

void put_in_pairs(std::span<const std::uint16_t> rows, std::size_t columns, std::uint16_t* to) {
  constexpr std::size_t kSideBySide = 16;
  const std::size_t count = rows.size() / columns;
  for (std::size_t first = 0; first < count; first += kSideBySide) {
    const std::size_t width = std::min(kSideBySide, count - first);
    for (std::size_t p = 0; p < width; ++p) {
      const std::uint16_t* const from = rows.data() + (first + p) * columns;
      std::uint16_t* const own = to + first * columns + 2 * p;
      for (std::size_t pair = 0; pair < columns / 2; ++pair) {
        std::memcpy(own + pair * 2 * width, from + 2 * pair, 2 * sizeof *from);
      }
    }
  }
}

void Activations::set(std::span<const float> values, std::size_t columns, MatrixFormat format,
                      ActivationBits bits) {
  columns_ = columns;
  positions_ = values.size() / columns;
  bits_ = bits;
  padded_ = ((columns + 31) / 32 | 1) * 32;
  blocks_.clear();
  floats_.clear();
  bf16_.clear();
  pairs_.clear();
  split_.clear();
  if (!takes_floats(format)) {
    blocks_.resize(positions_ * (columns / 32));
    const TileShape shape = tile_shape(format);
    instruction_set().quantize({values.data(), blocks_.size(), limit_of(bits),
                                bits == ActivationBits::k24, shape.bias, shape.scaled,
                                blocks_.data()});
    return;
  }
  floats_.assign(positions_ * padded_, 0);
  for (std::size_t p = 0; p < positions_; ++p) {
    std::copy_n(values.data() + p * columns, columns, floats_.data() + p * padded_);
  }
  if (format != MatrixFormat::kBF16 || bits == ActivationBits::k24) return;
  bf16_.resize(floats_.size());
  std::transform(floats_.begin(), floats_.end(), bf16_.begin(), float_to_bf16);
  std::transform(bf16_.begin(), bf16_.end(), floats_.begin(), bf16_to_float);
  const InstructionSet& set = instruction_set();
  if (set.reads_pairs()) {
    pairs_.resize(bf16_.size());
    put_in_pairs(bf16_, padded_, pairs_.data());
  } else if (positions_ > 1 && set.reads_split()) {
    split_.resize(floats_.size());
    for (std::size_t i = 0; i < floats_.size(); ++i) {
      split_[i / 32 * 32 + i % 2 * 16 + i % 32 / 2] = floats_[i];
    }
  }
}

}  // namespace berth

#include "runtime/kernels/activations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/cast_bits.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/pairs.h"
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

void Activations::set(std::span<const float> values, std::size_t columns, MatrixFormat format,
                      ActivationBits bits, ThreadTeam* team) {
  const InstructionSet& set = instruction_set();
  columns_ = columns;
  positions_ = values.size() / columns;
  bits_ = bits;
  padded_ = ((columns + 31) / 32 | 1) * 32;
  const bool rounded = format == MatrixFormat::kBF16 && bits != ActivationBits::k24;
  has_floats_ = takes_floats(format);
  has_bf16_ = rounded;
  has_pairs_ = rounded && set.reads_pairs();
  has_split_ = rounded && !has_pairs_ && positions_ > 1 && set.reads_split();
  const std::size_t count = positions_ * padded_;
  if (!has_floats_) blocks_.resize(positions_ * (columns / 32));
  if (has_floats_) floats_.resize(count);
  if (has_bf16_) bf16_.resize(count);
  if (has_pairs_) pairs_.resize(count);
  if (has_split_) split_.resize(count);
  // Sixteen positions at a time, as many as stand side by side in pairs().
  const std::size_t groups = (positions_ + kSideBySide - 1) / kSideBySide;
  const auto make = [&](std::size_t group) {
    const std::size_t first = group * kSideBySide;
    const std::size_t end = std::min(positions_, first + kSideBySide);
    for (std::size_t p = first; p < end; ++p) {
      const float* const row = values.data() + p * columns;
      if (has_floats_) {
        make_floats(row, p);
        continue;
      }
      const TileShape shape = tile_shape(format);
      set.quantize({row, columns / 32, limit_of(bits), bits == ActivationBits::k24, shape.bias,
                    shape.scaled, blocks_.data() + p * (columns / 32)});
    }
    if (!has_pairs_) return;
    put_in_pairs({bf16_.data() + first * padded_, (end - first) * padded_}, padded_,
                 pairs_.data() + first * padded_);
  };
  if (team == nullptr || groups < 2) {
    for (std::size_t group = 0; group < groups; ++group) make(group);
  } else {
    team->run(groups, [&](std::size_t group, std::size_t) { make(group); });
  }
}

void Activations::make_floats(const float* row, std::size_t position) {
  float* const floats = floats_.data() + position * padded_;
  std::copy_n(row, columns_, floats);
  std::fill(floats + columns_, floats + padded_, 0.0F);
  if (!has_bf16_) return;
  std::uint16_t* const bf16 = bf16_.data() + position * padded_;
  for (std::size_t i = 0; i < padded_; ++i) bf16[i] = float_to_bf16(floats[i]);
  for (std::size_t i = 0; i < padded_; ++i) floats[i] = bf16_to_float(bf16[i]);
  if (!has_split_) return;
  float* const split = split_.data() + position * padded_;
  for (std::size_t first = 0; first < padded_; first += 32) {
    for (std::size_t i = 0; i < 16; ++i) {
      split[first + i] = floats[first + 2 * i];
      split[first + 16 + i] = floats[first + 2 * i + 1];
    }
  }
}

}  // namespace berth

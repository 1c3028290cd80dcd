// The loops of products with tiles, compiled once for each instruction set: see product_loops.h.
// Lane r of every register belongs to row r of the tile. For each 32 (or 16) columns, exact integer
// sums are scaled and added to the row's float sum, in the order of the columns.
#pragma once

#include "runtime/kernels/activations.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/tiles.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// 32 elements of 16 rows as eight groups.
struct Groups {
  Bytes word[8];
};

BERTH_INLINE void load_nibbles(const std::byte* at, Groups& groups) {
  for (int g = 0; g < 4; ++g) {
    const Bytes both = load<Bytes>(at + g * kGroupBytes);
    groups.word[g] = both & (Bytes{} + std::uint8_t{15});
    groups.word[g + 4] = shift_right<4>(both, 15);
  }
}

BERTH_INLINE void add_fifth_bits(const std::byte* at, Groups& groups) {
  const Bytes bits = load<Bytes>(at);
  groups.word[0] |= shift_left<4>(bits, 16);
  groups.word[1] |= shift_left<3>(bits, 16);
  groups.word[2] |= shift_left<2>(bits, 16);
  groups.word[3] |= shift_left<1>(bits, 16);
  groups.word[4] |= bits & (Bytes{} + std::uint8_t{16});
  groups.word[5] |= shift_right<1>(bits, 16);
  groups.word[6] |= shift_right<2>(bits, 16);
  groups.word[7] |= shift_right<3>(bits, 16);
}

BERTH_INLINE void add_upper_bits(const std::byte* at, Groups& groups) {
  for (int half = 0; half < 2; ++half) {
    const Bytes bits = load<Bytes>(at + half * kGroupBytes);
    Bytes* const word = groups.word + 4 * half;
    word[0] |= shift_left<4>(bits, 48);
    word[1] |= shift_left<2>(bits, 48);
    word[2] |= bits & (Bytes{} + std::uint8_t{48});
    word[3] |= shift_right<2>(bits, 48);
  }
}

// Bytes that 32 elements of 16 rows take.
template <MatrixFormat kFormat>
constexpr std::size_t element_bytes() {
  switch (kFormat) {
    case MatrixFormat::kQ8_0:
      return 8 * kGroupBytes;
    case MatrixFormat::kQ5_0:
    case MatrixFormat::kQ5_1:
    case MatrixFormat::kQ5_K:
      return kNibbleBytes + kFifthBitBytes;
    case MatrixFormat::kQ6_K:
      return kNibbleBytes + kUpperBitsBytes;
    default:
      return kNibbleBytes;
  }
}

template <MatrixFormat kFormat>
BERTH_INLINE Groups load_groups(const std::byte* at) {
  Groups groups;
  if constexpr (kFormat == MatrixFormat::kQ8_0) {
    for (int g = 0; g < 8; ++g) groups.word[g] = load<Bytes>(at + g * kGroupBytes);
    return groups;
  }
  load_nibbles(at, groups);
  if constexpr (element_bytes<kFormat>() == kNibbleBytes + kFifthBitBytes) {
    add_fifth_bits(at + kNibbleBytes, groups);
  }
  if constexpr (kFormat == MatrixFormat::kQ6_K) add_upper_bits(at + kNibbleBytes, groups);
  return groups;
}

// Scales of scales: of 32 elements each, or of 16.
struct SixBitScales {
  SixteenBytes scale[8];
  SixteenBytes minimum[8];
};
struct EightBitScales {
  SixteenSignedBytes scale[16];
};

template <MatrixFormat kFormat>
BERTH_INLINE auto load_scales(const std::byte* at) {
  if constexpr (kFormat == MatrixFormat::kQ6_K) {
    return load<EightBitScales>(at);
  } else {  // as ggml packs them: get_scale_min_k4
    SixBitScales out;
    for (int j = 0; j < 4; ++j) {
      const auto first = load<SixteenBytes>(at + j * kTileRows);
      const auto second = load<SixteenBytes>(at + (j + 4) * kTileRows);
      const auto third = load<SixteenBytes>(at + (j + 8) * kTileRows);
      out.scale[j] = first & 63;
      out.minimum[j] = second & 63;
      out.scale[j + 4] = (third & 15) | (first >> 6 << 4);
      out.minimum[j + 4] = (third >> 4) | (second >> 6 << 4);
    }
    return out;
  }
}

// Adds the products of 32 / kParts columns, which share the scales, to the sums of 16 rows.
template <MatrixFormat kFormat, int kPlanes, int kParts>
BERTH_INLINE Floats add_part(const Groups& groups, int part, const ActivationBlock& x,
                             Floats scales, Floats minima, Floats sums) {
  constexpr TileShape kShape = tile_shape(kFormat);
  constexpr int kWords = 8 / kParts;
  Ints low{};
  Ints high{};
  for (int j = part * kWords; j < (part + 1) * kWords; ++j) {
    std::int32_t word;
    std::memcpy(&word, x.low + 4 * j, sizeof word);
    low = dot4(low, groups.word[j], broadcast(word));
    if constexpr (kPlanes == 2) {
      std::memcpy(&word, x.high + 4 * j, sizeof word);
      high = dot4(high, groups.word[j], broadcast(word));
    }
  }
  if constexpr (kPlanes == 2) low += high << 8;
  if constexpr (kShape.bias != 0) {
    const std::int32_t total = kParts == 2 ? x.sums[part] : x.sums[0] + x.sums[1];
    low -= kShape.bias * total;
  }
  sums = fma(to_floats(low) * x.scale, scales, sums);
  if constexpr (kShape.has_minimum) sums = fma(minima, broadcast(x.total), sums);
  return sums;
}

// One entry of a tile, for kPositions positions. `block`: the number of its first 32 columns.
template <MatrixFormat kFormat, int kPlanes, int kPositions>
BERTH_INLINE void add_entry(const std::byte* entry, const ActivationBlock* const (&x)[kPositions],
                            std::size_t block, Floats (&sums)[kPositions]) {
  constexpr TileShape kShape = tile_shape(kFormat);
  constexpr bool kNested = kShape.unit == 256;  // scales of scales
  constexpr int kParts = kShape.scaled == 16 ? 2 : 1;
  const Floats scale = halves(entry);
  entry += kHalfBytes;
  Floats minimum{};
  if constexpr (kShape.has_minimum) {
    minimum = halves(entry);
    entry += kHalfBytes;
  }
  if constexpr (!kNested) {
    const Groups groups = load_groups<kFormat>(entry);
    for (int p = 0; p < kPositions; ++p) {
      sums[p] = add_part<kFormat, kPlanes, 1>(groups, 0, x[p][block], scale, minimum, sums[p]);
    }
    return;
  }
  const auto scales = load_scales<kFormat>(entry);
  entry += kFormat == MatrixFormat::kQ6_K ? 16 * kTileRows : 12 * kTileRows;
  for (int b = 0; b < 8; ++b, entry += element_bytes<kFormat>()) {
    const Groups groups = load_groups<kFormat>(entry);
    Floats least{};
    if constexpr (kShape.has_minimum) {
      least = -minimum * __builtin_convertvector(scales.minimum[b], Floats);
    }
    for (int part = 0; part < kParts; ++part) {
      const Floats scaled =
          scale * __builtin_convertvector(scales.scale[b * kParts + part], Floats);
      for (int p = 0; p < kPositions; ++p) {
        sums[p] = add_part<kFormat, kPlanes, kParts>(groups, part, x[p][block + b], scaled, least,
                                                     sums[p]);
      }
    }
  }
}

template <MatrixFormat kFormat, int kPlanes, int kPositions>
void tile_positions(const ProductJob& job, std::size_t first) {
  constexpr TileShape kShape = tile_shape(kFormat);
  const ActivationBlock* blocks[kPositions];
  Floats sums[kPositions];
  for (int p = 0; p < kPositions; ++p) {
    blocks[p] = job.blocks + (first + p) * (job.columns / 32);
    sums[p] = Floats{};
  }
  const std::byte* entry = job.weights;
  for (std::size_t column = 0; column < job.columns; column += kShape.unit, entry += kShape.bytes) {
    add_entry<kFormat, kPlanes>(entry, blocks, column / 32, sums);
  }
  for (int p = 0; p < kPositions; ++p) {
    std::memcpy(job.out + (first + p) * job.stride, &sums[p], job.rows * sizeof(float));
  }
}

template <MatrixFormat kFormat, int kPlanes>
void tile_loop(const ProductJob& job) {
  std::size_t p = 0;
  for (; p + 4 <= job.positions; p += 4) tile_positions<kFormat, kPlanes, 4>(job, p);
  for (; p + 2 <= job.positions; p += 2) tile_positions<kFormat, kPlanes, 2>(job, p);
  if (p < job.positions) tile_positions<kFormat, kPlanes, 1>(job, p);
}

}  // namespace
}  // namespace berth

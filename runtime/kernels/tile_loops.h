// The loops of products with tiles, compiled once for each instruction set: see product_loops.h.
// Lane r of every register belongs to row r of the tile. For each 32 (or 16) columns, exact integer
// sums are scaled and added to the row's float sum, in the order of the columns.
#pragma once

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

template <MatrixFormat kFormat, int kPositions>
BERTH_INLINE Groups load_groups(const std::byte* at, const ProductJob& job) {
  const std::size_t ahead = kPositions > 1 ? 4096 : job.ahead;
  constexpr int kCache = kPositions > 1 ? 3 : 2;  // the first one, or the second
  for (std::size_t line = 0; line < element_bytes<kFormat>(); line += 64) {
    __builtin_prefetch(at + ahead + line, 0, kCache);
  }
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
  if constexpr (kFormat == MatrixFormat::kMxfp4) {
    for (Bytes& word : groups.word) word = look_up(kE2M1Codes, word);
  }
  return groups;
}

// Scales of scales of 256 elements: of 32 elements each with their minima, or of 16 elements each.
// 16 rows of each.
struct SixBitScales {
  std::uint8_t scale[8 * kTileRows];
  std::uint8_t minimum[8 * kTileRows];
};
struct EightBitScales {
  std::int8_t scale[16 * kTileRows];
};

BERTH_INLINE Floats scales_of(const SixBitScales& scales, int index) {
  return unsigned_bytes(scales.scale + index * kTileRows);
}
BERTH_INLINE Floats scales_of(const EightBitScales& scales, int index) {
  return signed_bytes(scales.scale + index * kTileRows);
}

template <MatrixFormat kFormat>
BERTH_INLINE auto load_scales(const std::byte* at) {
  if constexpr (kFormat == MatrixFormat::kQ6_K) {
    return load<EightBitScales>(at);
  } else {  // as ggml packs them: get_scale_min_k4
    const auto first = load<Bytes>(at);
    const auto second = load<Bytes>(at + 4 * kTileRows);
    const auto third = load<Bytes>(at + 8 * kTileRows);
    const Bytes six_bits = Bytes{} + std::uint8_t{63};
    const Bytes four_bits = Bytes{} + std::uint8_t{15};
    SixBitScales out;
    constexpr int kFour = 4 * kTileRows;
    store(first & six_bits, out.scale);
    store(second & six_bits, out.minimum);
    store((third & four_bits) | shift_right<2>(first, 48), out.scale + kFour);
    store(shift_right<4>(third, 15) | shift_right<2>(second, 48), out.minimum + kFour);
    return out;
  }
}

// The products of 32 / kParts columns, which share a scale, with one position, from their sums by
// plane: to be multiplied by the scale of each row.
template <MatrixFormat kFormat, int kPlanes>
BERTH_INLINE Floats joined(Ints low, Ints high, Ints rest, const ActivationBlock& x, int part) {
  if constexpr (kPlanes >= 2) low += high << 8;
  if constexpr (tile_shape(kFormat).bias != 0) {
    low += broadcast(x.offsets[part]);
    if constexpr (kPlanes == 3) rest += broadcast(x.rest_offsets[part]);
  }
  const Floats products = to_floats(low) * x.scale;
  if constexpr (kPlanes < 3) return products;
  return fma(to_floats(rest), broadcast(x.rest_scale), products);
}

// How 32 / kParts columns are multiplied: for each position in vectors, when it is asked for.
struct VectorProducts {
  template <int kPlanes, int kParts>
  BERTH_INLINE void begin(const Groups&, int, std::size_t) {}

  template <MatrixFormat kFormat, int kPlanes, int kParts>
  BERTH_INLINE Floats of(const Groups& groups, int part, int, const ActivationBlock& x) {
    constexpr int kWords = 8 / kParts;
    Ints low{};
    Ints high{};
    Ints rest{};
    for (int j = part * kWords; j < (part + 1) * kWords; ++j) {
      std::int32_t word;
      std::memcpy(&word, x.low + 4 * j, sizeof word);
      low = dot4(low, groups.word[j], broadcast(word));
      if constexpr (kPlanes >= 2) {
        std::memcpy(&word, x.high + 4 * j, sizeof word);
        high = dot4(high, groups.word[j], broadcast(word));
      }
      if constexpr (kPlanes == 3) {
        std::memcpy(&word, x.rest + 4 * j, sizeof word);
        rest = dot4(rest, groups.word[j], broadcast(word));
      }
    }
    return joined<kFormat, kPlanes>(low, high, rest, x, part);
  }
};

// One entry of 32 columns, for kPositions positions. `block`: the number of these columns.
template <MatrixFormat kFormat, int kPlanes, int kPositions, class Products>
BERTH_INLINE void add_entry(const ProductJob& job, const std::byte* entry,
                            const ActivationBlock* const (&x)[kPositions], std::size_t block,
                            Floats (&sums)[kPositions], Products& products) {
  constexpr bool kHasMinimum = tile_shape(kFormat).has_minimum;
  constexpr bool kHasExponent = kFormat == MatrixFormat::kMxfp4;
  constexpr std::size_t kScaleBytes = kHasExponent  ? kTileRows
                                      : kHasMinimum ? 2 * kHalfBytes
                                                    : kHalfBytes;
  const Floats scale = kHasExponent ? half_powers(entry) : halves(entry);
  const Floats minimum = kHasMinimum ? halves(entry + kHalfBytes) : Floats{};
  const Groups groups = load_groups<kFormat, kPositions>(entry + kScaleBytes, job);
  products.template begin<kPlanes, 1>(groups, 0, block);
  for (int p = 0; p < kPositions; ++p) {
    const ActivationBlock& own = x[p][block];
    const Floats found = products.template of<kFormat, kPlanes, 1>(groups, 0, p, own);
    sums[p] = fma(found, scale, sums[p]);
    if constexpr (kHasMinimum) sums[p] = fma(minimum, broadcast(own.total), sums[p]);
  }
}

// One entry of 256 columns, whose scales have scales: these multiply the sums of the whole entry.
template <MatrixFormat kFormat, int kPlanes, int kPositions, class Products>
BERTH_INLINE void add_nested(const ProductJob& job, const std::byte* entry,
                             const ActivationBlock* const (&x)[kPositions], std::size_t block,
                             Floats (&sums)[kPositions], Products& products) {
  constexpr bool kHasMinimum = tile_shape(kFormat).has_minimum;
  constexpr int kParts = 32 / tile_shape(kFormat).scaled;
  const std::byte* at = entry + (kHasMinimum ? 2 : 1) * kHalfBytes;
  const auto scales = load_scales<kFormat>(at);
  at += (kHasMinimum ? 12 : 16) * kTileRows;
  Floats scaled[kPositions] = {};
  Floats least[kPositions] = {};
  for (int b = 0; b < 8; ++b, at += element_bytes<kFormat>()) {
    const Groups groups = load_groups<kFormat, kPositions>(at, job);
    for (int part = 0; part < kParts; ++part) {
      const Floats scale = scales_of(scales, b * kParts + part);
      products.template begin<kPlanes, kParts>(groups, part, block + b);
      for (int p = 0; p < kPositions; ++p) {
        const ActivationBlock& own = x[p][block + b];
        const Floats found = products.template of<kFormat, kPlanes, kParts>(groups, part, p, own);
        scaled[p] = fma(found, scale, scaled[p]);
      }
    }
    if constexpr (kHasMinimum) {
      const Floats minimum = unsigned_bytes(scales.minimum + b * kTileRows);
      for (int p = 0; p < kPositions; ++p) {
        least[p] = fma(minimum, broadcast(x[p][block + b].total), least[p]);
      }
    }
  }
  const Floats scale = halves(entry);
  for (int p = 0; p < kPositions; ++p) sums[p] = fma(scale, scaled[p], sums[p]);
  if constexpr (kHasMinimum) {
    const Floats minimum = -halves(entry + kHalfBytes);
    for (int p = 0; p < kPositions; ++p) sums[p] = fma(minimum, least[p], sums[p]);
  }
}

// The products of a tile with `count` positions, `first` and those after it.
template <MatrixFormat kFormat, int kPlanes, int kPositions, class Products>
BERTH_INLINE void tile_positions(const ProductJob& job, std::size_t first, std::size_t count,
                                 Products& products) {
  constexpr TileShape kShape = tile_shape(kFormat);
  const ActivationBlock* blocks[kPositions];
  Floats sums[kPositions];
  for (std::size_t p = 0; p < kPositions; ++p) {
    const std::size_t own = p < count ? p : count - 1;  // what is too much is computed twice
    blocks[p] = job.blocks + (first + own) * (job.columns / 32);
    sums[p] = Floats{};
  }
  const std::byte* entry = job.weights;
  for (std::size_t column = 0; column < job.columns; column += kShape.unit, entry += kShape.bytes) {
    if constexpr (kShape.unit == 256) {
      add_nested<kFormat, kPlanes>(job, entry, blocks, column / 32, sums, products);
    } else {
      add_entry<kFormat, kPlanes>(job, entry, blocks, column / 32, sums, products);
    }
  }
  for (std::size_t p = 0; p < count; ++p) {
    std::memcpy(job.out + (first + p) * job.stride, &sums[p], job.rows * sizeof(float));
  }
}

template <MatrixFormat kFormat, int kPlanes, int kPositions>
void vector_positions(const ProductJob& job, std::size_t first) {
  VectorProducts products;
  tile_positions<kFormat, kPlanes, kPositions>(job, first, kPositions, products);
}

template <MatrixFormat kFormat, int kPlanes>
void tile_loop(const ProductJob& job) {
  std::size_t p = 0;
  for (; p + 8 <= job.positions; p += 8) vector_positions<kFormat, kPlanes, 8>(job, p);
  for (; p + 4 <= job.positions; p += 4) vector_positions<kFormat, kPlanes, 4>(job, p);
  for (; p + 2 <= job.positions; p += 2) vector_positions<kFormat, kPlanes, 2>(job, p);
  if (p < job.positions) vector_positions<kFormat, kPlanes, 1>(job, p);
}

}  // namespace
}  // namespace berth

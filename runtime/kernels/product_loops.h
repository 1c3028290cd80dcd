// The loops of products. They are compiled once for each instruction set, by a source file that
// defines BERTH_LOOPS (what a function is called there) and includes this one.
//
// Tiles: lane r of every register belongs to row r of the tile. For each 32 (or 16) columns, exact
// integer sums are scaled and added to the row's float sum, in the order of the columns. Rows as
// stored: lane l of a register sums the columns whose number is l modulo 16 (BF16: pairs of
// columns, modulo 32), and the lanes are added at the end. So the order in which an output is
// summed depends neither on the number of positions nor on the threads.
#include <type_traits>

#include "runtime/kernels/activations.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/tiles.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// ---- tiles ----

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

// ---- rows as stored ----

// Products of 32 columns of one row. A row that ends within them was filled up with zeros.
struct F32Row {
  static constexpr std::size_t kBytes = 4;
  using Activation = float;
  static const float* activations(const ProductJob& job) { return job.floats; }
  BERTH_INLINE static Floats add(const std::byte* row, const float* x, Floats sums) {
    sums = fma(load<Floats>(row), load<Floats>(x), sums);
    return fma(load<Floats>(row + 64), load<Floats>(x + 16), sums);
  }
};
struct F16Row {
  static constexpr std::size_t kBytes = 2;
  using Activation = float;
  static const float* activations(const ProductJob& job) { return job.floats; }
  BERTH_INLINE static Floats add(const std::byte* row, const float* x, Floats sums) {
    sums = fma(halves(row), load<Floats>(x), sums);
    return fma(halves(row + 32), load<Floats>(x + 16), sums);
  }
};
// Both sides are bf16, so their products are exact in f32.
struct BF16Row {
  static constexpr std::size_t kBytes = 2;
  using Activation = std::uint16_t;
  static const std::uint16_t* activations(const ProductJob& job) { return job.bf16; }
  BERTH_INLINE static Floats add(const std::byte* row, const std::uint16_t* x, Floats sums) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sums), load<__m512bh>(row), load<__m512bh>(x)));
#else
    const Ints left = load<Ints>(row);
    const Ints right = load<Ints>(x);
    const Ints upper = broadcast(static_cast<std::int32_t>(0xFFFF0000));
    sums = fma(reinterpret_cast<Floats>(left << 16), reinterpret_cast<Floats>(right << 16), sums);
    return fma(reinterpret_cast<Floats>(left & upper), reinterpret_cast<Floats>(right & upper),
               sums);
#endif
  }
};

template <class Row, int kRows, int kPositions>
BERTH_INLINE void row_block(const ProductJob& job, std::size_t row, std::size_t first) {
  constexpr std::size_t kStep = 32;
  constexpr std::size_t kAhead = 3072;  // bytes: what processors fetch by themselves is too late
  const std::size_t row_bytes = job.columns * Row::kBytes;
  const std::byte* const rows = job.weights + row * row_bytes;
  const auto* const values = Row::activations(job) + first * job.padded_columns;
  Floats sums[kRows][kPositions];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPositions; ++p) sums[r][p] = Floats{};
  }
  const auto step = [&](const std::byte* const(&at)[kRows], std::size_t column)
      __attribute__((always_inline)) {
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPositions; ++p) {
        sums[r][p] = Row::add(at[r], values + p * job.padded_columns + column, sums[r][p]);
      }
    }
  };
  const std::byte* at[kRows];
  std::size_t column = 0;
  for (; column + kStep <= job.columns; column += kStep) {
    for (int r = 0; r < kRows; ++r) {
      at[r] = rows + r * row_bytes + column * Row::kBytes;
      if constexpr (kRows == 1 && kPositions == 1) {
        for (std::size_t line = 0; line < kStep * Row::kBytes; line += 64) {
          __builtin_prefetch(at[r] + kAhead + line);
        }
      }
    }
    step(at, column);
  }
  if (column < job.columns) {
    std::byte last[kRows][kStep * Row::kBytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(last[r], rows + r * row_bytes + column * Row::kBytes,
                  (job.columns - column) * Row::kBytes);
      at[r] = last[r];
    }
    step(at, column);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPositions; ++p) {
      job.out[(first + p) * job.stride + row + r] = sum_of(sums[r][p]);
    }
  }
}

template <class Row, int kRows>
BERTH_INLINE void rows_of(const ProductJob& job, std::size_t row) {
  std::size_t p = 0;
  for (; p + 4 <= job.positions; p += 4) row_block<Row, kRows, 4>(job, row, p);
  for (; p < job.positions; ++p) row_block<Row, kRows, 1>(job, row, p);
}

template <class Row>
void row_loop(const ProductJob& job) {
  std::size_t row = 0;
  // One position waits for memory alone, which is quickest where it is read from end to end.
  while (job.positions > 1 && row + 4 <= job.rows) {
    rows_of<Row, 4>(job, row);
    row += 4;
  }
  for (; row < job.rows; ++row) rows_of<Row, 1>(job, row);
}

template <MatrixFormat kFormat>
constexpr ProductLoop kTile[2] = {tile_loop<kFormat, 1>, tile_loop<kFormat, 2>};

}  // namespace

ProductLoop BERTH_LOOPS(products)(MatrixFormat format, ActivationBits bits) {
  const std::size_t planes = bits == ActivationBits::k16 ? 1 : 0;
  switch (format) {
    case MatrixFormat::kF32:
      return row_loop<F32Row>;
    case MatrixFormat::kF16:
      return row_loop<F16Row>;
    case MatrixFormat::kBF16:
      return row_loop<BF16Row>;
    case MatrixFormat::kQ8_0:
      return kTile<MatrixFormat::kQ8_0>[planes];
    case MatrixFormat::kQ4_0:
      return kTile<MatrixFormat::kQ4_0>[planes];
    case MatrixFormat::kQ4_1:
      return kTile<MatrixFormat::kQ4_1>[planes];
    case MatrixFormat::kQ5_0:
      return kTile<MatrixFormat::kQ5_0>[planes];
    case MatrixFormat::kQ5_1:
      return kTile<MatrixFormat::kQ5_1>[planes];
    case MatrixFormat::kQ4_K:
      return kTile<MatrixFormat::kQ4_K>[planes];
    case MatrixFormat::kQ5_K:
      return kTile<MatrixFormat::kQ5_K>[planes];
    case MatrixFormat::kQ6_K:
      return kTile<MatrixFormat::kQ6_K>[planes];
  }
  return nullptr;
}

}  // namespace berth

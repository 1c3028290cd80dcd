// The loops of products with rows as they are stored, compiled once for each instruction set: see
// product_loops.h. Lane l of a register sums the columns whose number is l modulo 16 (BF16: pairs
// of columns, modulo 32), and the lanes are added at the end.
#pragma once

#include "runtime/kernels/row_formats.h"

namespace berth {
namespace {

// Several positions are computed together, up to eight, with 2 KiB of each row at a time: so the
// activations stay in the first cache, and a weight that came from memory serves all positions.
// Sums are kept in memory between these columns. Rows are taken in groups that fit the second
// cache.
constexpr int kPositionsAtOnce = 8;
#if defined(__AVX512F__)
constexpr int kRowsAtOnce = 4;
#else
constexpr int kRowsAtOnce = 2;
#endif
template <class Row>
constexpr std::size_t kColumnsAtOnce = 2048 / Row::kBytes;
constexpr std::size_t kGroup = 128u << 10;  // bytes
using RowSums = Floats[kTileRows][kPositionsAtOnce];

// The rows and columns that are added next. `weights` and `values` begin at their first column.
// `next` are weights that will be wanted later: as many bytes of them are fetched as are used here,
// one after another, because that is what processors then go on with by themselves.
template <class Row>
struct RowBlock {
  const std::byte* weights;
  std::size_t row_bytes;
  const std::byte* next;
  const typename Row::Activation* values;
  std::size_t values_stride;
  std::size_t columns;
};

// Adds to the sums of kRows rows and of kPositions positions, `first` and those after it, in
// registers.
template <class Row, int kRows, int kPositions, bool kPrefetch = true>
BERTH_INLINE void add_columns(const RowBlock<Row>& block, Floats (*to)[kPositionsAtOnce],
                              std::size_t first) {
  constexpr std::size_t kStep = 32;
  Floats sums[kRows][kPositions];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPositions; ++p) sums[r][p] = to[r][first + p];
  }
  const auto step = [&](const std::byte* const(&at)[kRows], std::size_t column)
      __attribute__((always_inline)) {
    for (std::size_t part = 0; part < kStep; part += Row::kColumns) {
      typename Row::Loaded values[kPositions];
      for (int p = 0; p < kPositions; ++p) {
        values[p] = Row::values(block.values + p * block.values_stride + column + part);
      }
      for (int r = 0; r < kRows; ++r) {
        const auto weights = Row::weights(at[r] + part * Row::kBytes);
        for (int p = 0; p < kPositions; ++p) sums[r][p] = Row::add(weights, values[p], sums[r][p]);
      }
    }
  };
  const std::byte* at[kRows];
  std::size_t column = 0;
  for (; column + kStep <= block.columns; column += kStep) {
    const std::size_t offset = column * Row::kBytes;
    for (int r = 0; r < kRows; ++r) at[r] = block.weights + r * block.row_bytes + offset;
    if constexpr (kPrefetch) {
      for (std::size_t line = 0; line < kRows * kStep * Row::kBytes; line += 64) {
        __builtin_prefetch(block.next + kRows * offset + line, 0, 2);  // to the second cache
      }
    }
    step(at, column);
  }
  if (column < block.columns) {
    std::byte last[kRows][kStep * Row::kBytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(last[r], block.weights + r * block.row_bytes + column * Row::kBytes,
                  (block.columns - column) * Row::kBytes);
      at[r] = last[r];
    }
    step(at, column);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPositions; ++p) to[r][first + p] = sums[r][p];
  }
}

// As many positions at a time as there are registers for.
template <class Row, int kRows, bool kPrefetch>
BERTH_INLINE void add_positions(const RowBlock<Row>& block, std::size_t positions,
                                Floats (*to)[kPositionsAtOnce]) {
  RowBlock<Row> part = block;
  std::size_t p = 0;
  const auto advance = [&](std::size_t count) __attribute__((always_inline)) {
    p += count;
    part.values += count * part.values_stride;
    part.next = part.weights;  // they are fetched once
  };
#if defined(__AVX512F__)
  while (p + 4 <= positions) {
    if (p == 0) {
      add_columns<Row, kRows, 4, kPrefetch>(part, to, p);
    } else {
      add_columns<Row, kRows, 4, false>(part, to, p);
    }
    advance(4);
  }
#endif
  while (p + 2 <= positions) {
    add_columns<Row, kRows, 2, kPrefetch>(part, to, p);
    advance(2);
  }
  if (p < positions) add_columns<Row, kRows, 1, kPrefetch>(part, to, p);
}

// Lane sums of one position. Weights are used from end to end.
template <class Row>
BERTH_INLINE void one_position(const ProductJob& job, const typename Row::Activation* values,
                               RowSums& sums) {
  const std::size_t row_bytes = job.columns * Row::kBytes;
  for (std::size_t row = 0; row < job.rows; ++row) {
    const std::byte* const weights = job.weights + row * row_bytes;
    add_columns<Row, 1, 1>({weights, row_bytes, weights + job.ahead, values, 0, job.columns},
                           sums + row, 0);
  }
}

// Lane sums of several positions. kPrefetch: the first of them, for which weights come from memory.
template <class Row, bool kPrefetch>
BERTH_INLINE void some_positions(const ProductJob& job, const typename Row::Activation* values,
                                 std::size_t positions, RowSums& sums) {
  const std::size_t row_bytes = job.columns * Row::kBytes;
  const std::size_t fit = kGroup / (row_bytes + 1) / kRowsAtOnce * kRowsAtOnce;
  const std::size_t together = fit < kRowsAtOnce ? kRowsAtOnce : fit < kTileRows ? fit : kTileRows;
  for (std::size_t first = 0; first < job.rows; first += together) {
    const std::size_t end = job.rows - first < together ? job.rows : first + together;
    const std::byte* next = job.weights + end * row_bytes;
    for (std::size_t column = 0; column < job.columns; column += kColumnsAtOnce<Row>) {
      const std::size_t left = job.columns - column;
      const std::size_t count = left < kColumnsAtOnce<Row> ? left : kColumnsAtOnce<Row>;
      for (std::size_t row = first; row < end;) {
        const std::byte* const weights = job.weights + row * row_bytes + column * Row::kBytes;
        const RowBlock<Row> block{weights,         row_bytes,          next,
                                  values + column, job.padded_columns, count};
        std::size_t rows = 1;
        if (row + kRowsAtOnce <= end) {
          add_positions<Row, kRowsAtOnce, kPrefetch>(block, positions, sums + row);
          rows = kRowsAtOnce;
        } else {
          add_positions<Row, 1, kPrefetch>(block, positions, sums + row);
        }
        row += rows;
        next += rows * count * Row::kBytes;
      }
    }
  }
}

template <class Row>
BERTH_INLINE void sixteen_rows(const ProductJob& job) {
  for (std::size_t first = 0; first < job.positions; first += kPositionsAtOnce) {
    const std::size_t left = job.positions - first;
    const std::size_t count = left < kPositionsAtOnce ? left : kPositionsAtOnce;
    const auto* const values = Row::activations(job) + first * job.padded_columns;
    RowSums sums = {};
    if (count == 1) {
      one_position<Row>(job, values, sums);
    } else {
      first == 0 ? some_positions<Row, true>(job, values, count, sums)
                 : some_positions<Row, false>(job, values, count, sums);
    }
    for (std::size_t p = 0; p < count; ++p) {
      Floats lanes[kTileRows];
      for (std::size_t r = 0; r < kTileRows; ++r) lanes[r] = sums[r][p];
      const Floats totals = sums_of(lanes);
      std::memcpy(job.out + (first + p) * job.stride, &totals, job.rows * sizeof(float));
    }
  }
}

template <class Row>
void row_loop(const ProductJob& job) {
  ProductJob part = job;
  for (std::size_t row = 0; row < job.rows; row += kTileRows) {
    part.weights = job.weights + row * job.columns * Row::kBytes;
    part.rows = job.rows - row < kTileRows ? job.rows - row : kTileRows;
    part.out = job.out + row;
    sixteen_rows<Row>(part);
  }
}

// BF16 beside activations that were rounded to it.
void bf16_loop(const ProductJob& job) {
  job.split != nullptr&& job.positions > 1 ? row_loop<BF16SplitRow>(job) : row_loop<BF16Row>(job);
}

}  // namespace
}  // namespace berth

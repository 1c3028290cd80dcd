// The loops of products with rows as they are stored, compiled once for each instruction set: see
// product_loops.h. Lane l of a register sums the columns whose number is l modulo 16 (BF16: pairs
// of columns, modulo 32), and the lanes are added at the end.
#pragma once

#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

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

}  // namespace
}  // namespace berth

// The loops of products with tiles of grouped formats, compiled once for each instruction set: see
// product_loops.h. The products of each group of columns are summed, scaled and added to the row's
// sum, in the order of the groups.
#pragma once

#include "runtime/kernels/tile_loops.h"

namespace berth {
namespace {

BERTH_INLINE std::size_t columns_from(const ProductJob& job, std::size_t first) {
  const std::size_t left = job.columns - first;
  return left < job.group ? left : job.group;
}

// Codes of 4 bits: sum of scale x (code - zero) x activation.
template <int kPlanes, int kPositions>
void code_positions(const ProductJob& job, std::size_t first) {
  const ActivationBlock* x[kPositions];
  Floats sums[kPositions];
  for (int p = 0; p < kPositions; ++p) {
    x[p] = job.blocks + (first + p) * (job.columns / 32);
    sums[p] = Floats{};
  }
  VectorProducts vectors;
  const std::byte* at = job.weights;
  for (std::size_t column = 0; column < job.columns; column += job.group) {
    const Floats scale = load<Floats>(at);
    at += kGroupScaleBytes;
    const Floats zero = unsigned_bytes(reinterpret_cast<const std::uint8_t*>(at));
    at += kTileRows;
    Floats products[kPositions];
    float totals[kPositions];
    for (int p = 0; p < kPositions; ++p) {
      products[p] = Floats{};
      totals[p] = 0;
    }
    const std::size_t end = (column + columns_from(job, column)) / 32;
    for (std::size_t b = column / 32; b < end; ++b, at += kNibbleBytes) {
      const Groups groups = load_groups<MatrixFormat::kU4, kPositions>(at, job);
      for (int p = 0; p < kPositions; ++p) {
        products[p] += vectors.of<MatrixFormat::kU4, kPlanes, 1>(groups, 0, p, x[p][b]);
        totals[p] += x[p][b].total;
      }
    }
    for (int p = 0; p < kPositions; ++p) {
      const Floats sum = fma(-zero, broadcast(totals[p]), products[p]);
      sums[p] = fma(scale, sum, sums[p]);
    }
  }
  for (int p = 0; p < kPositions; ++p) {
    std::memcpy(job.out + (first + p) * job.stride, &sums[p], job.rows * sizeof(float));
  }
}

template <int kPlanes>
void code_loop(const ProductJob& job) {
  std::size_t p = 0;
  for (; p + 8 <= job.positions; p += 8) code_positions<kPlanes, 8>(job, p);
  for (; p + 4 <= job.positions; p += 4) code_positions<kPlanes, 4>(job, p);
  for (; p + 2 <= job.positions; p += 2) code_positions<kPlanes, 2>(job, p);
  if (p < job.positions) code_positions<kPlanes, 1>(job, p);
}

// FP8 as f16 of the same value, but for a power of two that its scales make up for.
struct E4M3 {
  BERTH_INLINE static Words halves(Words codes) {
    return (codes & std::uint16_t{0x80}) << 8 | (codes & std::uint16_t{0x7F}) << 7;
  }
};
struct E5M2 {
  BERTH_INLINE static Words halves(Words codes) { return codes << 8; }
};

template <class Code, int kPositions>
void float_positions(const ProductJob& job, std::size_t first) {
  constexpr int kChains = 4;  // sums of every fourth column: so many are added at a time
  const float* const x = job.floats + first * job.padded_columns;
  Floats sums[kPositions];
  for (int p = 0; p < kPositions; ++p) sums[p] = Floats{};
  const std::byte* at = job.weights;
  for (std::size_t column = 0; column < job.columns; column += job.group) {
    const Floats scale = load<Floats>(at);
    at += kGroupScaleBytes;
    Floats chains[kPositions][kChains] = {};
    const std::size_t end = column + columns_from(job, column);
    for (std::size_t c = column; c < end; c += kChains, at += kChains * kTileRows) {
      const TwoFloats even = halves_of(Code::halves(widened(at)));
      const TwoFloats odd = halves_of(Code::halves(widened(at + 2 * kTileRows)));
      const Floats weights[kChains] = {even.first, even.second, odd.first, odd.second};
      for (int p = 0; p < kPositions; ++p) {
        for (int i = 0; i < kChains; ++i) {
          const Floats value = broadcast(x[p * job.padded_columns + c + i]);
          chains[p][i] = fma(weights[i], value, chains[p][i]);
        }
      }
    }
    for (int p = 0; p < kPositions; ++p) {
      const Floats sum = (chains[p][0] + chains[p][1]) + (chains[p][2] + chains[p][3]);
      sums[p] = fma(scale, sum, sums[p]);
    }
  }
  for (int p = 0; p < kPositions; ++p) {
    std::memcpy(job.out + (first + p) * job.stride, &sums[p], job.rows * sizeof(float));
  }
}

template <class Code>
void float_loop(const ProductJob& job) {
  std::size_t p = 0;
#if defined(__AVX512F__)  // as many sums as there are registers for
  for (; p + 4 <= job.positions; p += 4) float_positions<Code, 4>(job, p);
#endif
  for (; p < job.positions; ++p) float_positions<Code, 1>(job, p);
}

}  // namespace
}  // namespace berth

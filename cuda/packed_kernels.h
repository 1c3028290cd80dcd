// The kernels of packed_product.h, and how many threads they are run with. packed_kernels.cu
// includes this for the device. A test includes it with the words of CUDA emulated on the host
// (tests/kernels/simt.h), so that what the kernels index is tried where no GPU is.
//
// What limits a product is how fast the matrix can be read, so the bytes of a row go to registers
// once, for all positions at a time. Four warps are a group of threads. They divide the columns of
// a few rows among them, or where rows are short each takes rows of its own. Where several
// positions are computed, a warp also has several rows, because then activations, which come out of
// the cache, are what it reads most of.
#pragma once

#include "cuda/activation_kernel.h"
#include "cuda/packed_loops.h"

namespace berth {
namespace {

// Adds each of the sums over all lanes of the warp. In each step a lane gives half of its sums to
// the partner at `kOffset` and gets that one's other half, until one is left: lane l's sums[0] is
// then the total of sum l / (32 / kSums). Whichever sum it is, the lanes are added in the order of
// a butterfly. `kCount`: how many sums a lane still has.
template <int kCount, int kOffset, int kSums>
__device__ void add_lanes(float (&sums)[kSums], int lane) {
  if constexpr (kOffset > 0) {
    constexpr int kLeft = kCount > 1 ? kCount / 2 : 1;
    const bool upper = (lane & kOffset) != 0;
    BERTH_UNROLL
    for (int i = 0; i < kLeft; ++i) {
      const float other = sums[kCount > 1 ? i + kLeft : i];
      const float given = upper ? sums[i] : other;
      const float kept = upper ? other : sums[i];
      sums[i] = plus(kept, __shfl_xor_sync(~0u, given, kOffset));
    }
    add_lanes<kLeft, kOffset / 2>(sums, lane);
  }
}

struct ProductJob {
  const Byte* matrix;
  std::size_t rows, blocks, row_bytes, steps, groups;  // see PackedSizes
  const ActivationGroup* x;
  int positions;  // at most as many as the kernel computes
  PackedOutput y;
  std::size_t first_position;  // of y
};

// kRows rows of the matrix and kPositions positions for each warp, or for all warps together.
template <class Block, int kPositions, int kRows>
__global__ void __launch_bounds__(kThreads) product_kernel(ProductJob job) {
  constexpr int kSums = kRows * kPositions;
  __shared__ float parts[kWarps][kSums];
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warps = warps_of_row(job.steps);
  const int together = kWarps / warps;  // groups of rows in this group of threads
  const std::size_t first_row =
      (static_cast<std::size_t>(blockIdx.x) * together + warp / warps) * kRows;

  float sums[kSums] = {};  // of row r and position p: r kPositions + p
  // Rows that are not there are computed like the last one, and not written.
  const Byte* rows[kRows];
  BERTH_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const std::size_t row = first_row + r < job.rows ? first_row + r : job.rows - 1;
    rows[r] = job.matrix + row * job.row_bytes;
  }
  BERTH_UNROLL_TWICE
  for (std::size_t step = warp % warps; step < job.steps; step += warps) {
    Share shares[kRows];
    bool there = true;
    BERTH_UNROLL
    for (int r = 0; r < kRows; ++r) {
      there = take_share<Block>(rows[r], step, job.blocks, lane, shares[r]);
    }
    if (!there) continue;
    BERTH_UNROLL
    for (int p = 0; p < kPositions; ++p) {
      const int position = p < job.positions ? p : job.positions - 1;
      const ActivationGroup* x = job.x + position * job.groups + step * (kStepColumns / 32);
      BERTH_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float& sum = sums[r * kPositions + p];
        sum = add_share<Block>(shares[r], x, lane, sum);
      }
    }
  }
  add_lanes<kSums, kWarpLanes / 2>(sums, lane);
  if (lane % (kWarpLanes / kSums) == 0) parts[warp][lane / (kWarpLanes / kSums)] = sums[0];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < together * kSums; i += kThreads) {
    const int of = i / kSums, at = i % kSums, p = at % kPositions;
    const std::size_t row =
        (static_cast<std::size_t>(blockIdx.x) * together + of) * kRows + at / kPositions;
    if (row >= job.rows || p >= job.positions) continue;
    float sum = parts[of * warps][at];
    for (int w = 1; w < warps; ++w) sum = plus(sum, parts[of * warps + w][at]);
    put_float(job.y.data, job.y.format, (job.first_position + p) * job.rows + row, sum);
  }
}

// In each step of a grid-stride loop a thread makes one element.
template <class Block>
__global__ void rows_kernel(const Byte* matrix, std::size_t row_bytes, std::size_t columns,
                            const std::int64_t* ids, std::size_t elements, PackedOutput to) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kThreads;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; i < elements; i += stride) {
    const std::size_t column = i % columns;
    const Byte* row = matrix + static_cast<std::size_t>(ids[i / columns]) * row_bytes;
    put_float(to.data, to.format, i,
              Block::element(row + column / Block::kElements * Block::kBytes,
                             static_cast<int>(column % Block::kElements)));
  }
}

// `launch(groups, kernel, arguments...)` runs a kernel with so many groups of kThreads threads, one
// kernel after another.
template <class Block, int kPositions, int kRows, class Launch>
void run_product(const ProductJob& job, const Launch& launch) {
  const auto together = static_cast<std::size_t>(kWarps / warps_of_row(job.steps));
  launch(groups_of_threads(job.rows, together * kRows), product_kernel<Block, kPositions, kRows>,
         job);
}

template <class Launch>
void run_products(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                  const PackedOutput& y, const Launch& launch) {
  require_whole_blocks(matrix);
  if (x.positions == 0 || matrix.rows == 0) return;
  auto* const activations = static_cast<ActivationGroup*>(workspace);
  const std::size_t groups = x.positions * (matrix.columns / 32);
  launch(groups_of_threads(groups, kWarps), activation_kernel, x, groups, activations);
  with_block(matrix.format, [&](auto block) {
    using Block = decltype(block);
    const PackedSizes<Block> sizes(matrix);
    ProductJob job{static_cast<const Byte*>(matrix.data),
                   matrix.rows,
                   sizes.blocks,
                   sizes.row_bytes,
                   sizes.steps,
                   sizes.groups,
                   activations,
                   0,
                   y,
                   0};
    for (; job.first_position < x.positions; job.first_position += kPackedPositions) {
      const std::size_t left = x.positions - job.first_position;
      job.positions = static_cast<int>(left < kPackedPositions ? left : kPackedPositions);
      job.x = activations + job.first_position * sizes.groups;
      if (job.positions == 1) {
        run_product<Block, 1, 1>(job, launch);
      } else if (job.positions == 2) {
        run_product<Block, 2, 2>(job, launch);
      } else if (job.positions <= 4) {
        run_product<Block, 4, 4>(job, launch);
      } else {
        run_product<Block, kPackedPositions, 4>(job, launch);
      }
    }
  });
}

template <class Launch>
void run_rows(const PackedMatrix& matrix, const std::int64_t* ids, std::size_t count,
              const PackedOutput& to, const Launch& launch) {
  require_whole_blocks(matrix);
  if (count == 0) return;
  const std::size_t elements = count * matrix.columns;
  const unsigned wanted = groups_of_threads(elements, kThreads);
  with_block(matrix.format, [&](auto block) {
    using Block = decltype(block);
    const PackedSizes<Block> sizes(matrix);
    launch(wanted < kMostGroups ? wanted : kMostGroups, rows_kernel<Block>,
           static_cast<const Byte*>(matrix.data), sizes.row_bytes, matrix.columns, ids, elements,
           to);
  });
}

}  // namespace
}  // namespace berth

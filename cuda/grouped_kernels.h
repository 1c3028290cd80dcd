// The kernels of grouped_product.h, and how many threads they are run with. grouped_kernels.cu
// includes this for the device, and a test with the words of CUDA emulated on the host
// (tests/kernels/simt.h), as packed_kernels.h.
//
// What limits a product is how fast the matrix can be read, so the bytes of a tile go to registers
// once, for all positions at a time. A group of threads has one tile, whose steps its eight warps
// divide among them: a matrix of 4,096 rows is 256 tiles, which as many warps would not keep a GPU
// busy with.
#pragma once

#include "cuda/activation_kernel.h"
#include "cuda/grouped_loops.h"

namespace berth {
namespace {

constexpr unsigned kGroupedThreads = kGroupedWarps * kWarpLanes;

// Activations as f32, beside FP8.
__global__ void float_kernel(PackedInput x, std::size_t count, float* to) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kGroupedThreads + threadIdx.x;
  if (i < count) to[i] = float_at(x.data, x.format, i);
}

template <GroupCode kCode>
struct GroupedJob {
  const Byte* matrix;
  std::size_t rows;
  GroupedSizes sizes;
  const typename TileLanes<kCode>::Activations* x;
  std::size_t each;  // activations of a position
  int positions;     // at most as many as the kernel computes
  PackedOutput y;
  std::size_t first_position;  // of y
};

template <GroupCode kCode, int kPositions>
__global__ void __launch_bounds__(kGroupedThreads) grouped_kernel(GroupedJob<kCode> job) {
  constexpr int kSums = kRowsOfTile * kPositions;
  __shared__ float parts[kGroupedWarps][kSums];
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const Byte* tile = job.matrix + blockIdx.x * job.sizes.tile_bytes;

  float sums[kPositions * kTileSums] = {};
  BERTH_UNROLL_TWICE
  for (std::size_t step = warp; step < job.sizes.steps; step += kGroupedWarps) {
    TileShare share;
    std::size_t cell = 0;
    if (!take_tile<kCode>(tile, job.sizes, step, lane, cell, share)) continue;
    BERTH_UNROLL
    for (int p = 0; p < kPositions; ++p) {
      // Positions that are not there are computed like the last one, and not written.
      const int position = p < job.positions ? p : job.positions - 1;
      TileLanes<kCode>::add(share, activations_of<kCode>(job.x + position * job.each, cell), lane,
                            sums + p * kTileSums);
    }
  }
  // Lanes with the same rows add what they have; then the warps do.
  BERTH_UNROLL
  for (int i = 0; i < kPositions * kTileSums; ++i) {
    BERTH_UNROLL
    for (int offset = kWarpLanes / 2; offset >= kTileSums; offset /= 2) {
      sums[i] = plus(sums[i], __shfl_xor_sync(~0u, sums[i], offset));
    }
    if (lane < kTileSums) {
      parts[warp][i / kTileSums * kRowsOfTile + lane * kTileSums + i % kTileSums] = sums[i];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSums; i += kGroupedThreads) {
    const int p = i / kRowsOfTile;
    const std::size_t row = static_cast<std::size_t>(blockIdx.x) * kRowsOfTile + i % kRowsOfTile;
    if (row >= job.rows || p >= job.positions) continue;
    float sum = parts[0][i];
    for (int w = 1; w < kGroupedWarps; ++w) sum = plus(sum, parts[w][i]);
    put_float(job.y.data, job.y.format, (job.first_position + p) * job.rows + row, sum);
  }
}

// In each step of a grid-stride loop a thread makes one element.
template <GroupCode kCode>
__global__ void grouped_rows_kernel(const Byte* matrix, GroupedSizes sizes, std::size_t columns,
                                    RowChoice rows, PackedOutput to) {
  const std::size_t elements = row_elements(rows.count, columns);
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kGroupedThreads;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * kGroupedThreads + threadIdx.x;
  for (; i < elements; i += stride) {
    const RowElement at = row_element(i, sizes.cells);
    if (at.row >= rows.count) continue;
    put_float(to.data, to.format, at.row * columns + at.column,
              element_of<kCode>(matrix, sizes, chosen_row(rows, at.row), at.column));
  }
}

// `launch(groups, threads, kernel, arguments...)` runs a kernel with so many groups of threads, one
// kernel after another.

template <GroupCode kCode, class Launch>
const typename TileLanes<kCode>::Activations* run_activations(const PackedInput& x,
                                                              std::size_t columns, void* workspace,
                                                              const Launch& launch) {
  auto* const ready = static_cast<typename TileLanes<kCode>::Activations*>(workspace);
  const std::size_t count = x.positions * columns;
  if constexpr (TileLanes<kCode>::kFloats) {
    launch(groups_of_threads(count, kGroupedThreads), kGroupedThreads, float_kernel, x, count,
           ready);
  } else {
    launch(groups_of_threads(count / 32, kWarps), kThreads, activation_kernel, x, count / 32,
           ready);
  }
  return ready;
}

template <GroupCode kCode, int kPositions, class Launch>
void run_tiles(const GroupedJob<kCode>& job, const Launch& launch) {
  launch(groups_of_threads(job.rows, kRowsOfTile), kGroupedThreads,
         grouped_kernel<kCode, kPositions>, job);
}

template <class Launch>
void run_grouped(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                 const PackedOutput& y, const Launch& launch) {
  require_whole_groups(matrix);
  if (x.positions == 0 || matrix.rows == 0) return;
  with_code(matrix.tile.code, [&](auto tag) {
    constexpr GroupCode kCode = decltype(tag)::kValue;
    const auto* const ready = run_activations<kCode>(x, matrix.columns, workspace, launch);
    const GroupedSizes sizes = grouped_sizes(matrix.tile, matrix.columns);
    GroupedJob<kCode> job{static_cast<const Byte*>(matrix.data),
                          matrix.rows,
                          sizes,
                          ready,
                          TileLanes<kCode>::kFloats ? matrix.columns : sizes.cells,
                          0,
                          y,
                          0};
    for (; job.first_position < x.positions; job.first_position += kPackedPositions) {
      const std::size_t left = x.positions - job.first_position;
      job.positions = static_cast<int>(left < kPackedPositions ? left : kPackedPositions);
      job.x = ready + job.first_position * job.each;
      if (job.positions == 1) {
        run_tiles<kCode, 1>(job, launch);
      } else if (job.positions == 2) {
        run_tiles<kCode, 2>(job, launch);
      } else if (job.positions <= 4) {
        run_tiles<kCode, 4>(job, launch);
      } else {
        run_tiles<kCode, kPackedPositions>(job, launch);
      }
    }
  });
}

template <class Launch>
void run_grouped_rows(const GroupedMatrix& matrix, const RowChoice& rows, const PackedOutput& to,
                      const Launch& launch) {
  require_whole_groups(matrix);
  if (rows.count == 0) return;
  const unsigned wanted =
      groups_of_threads(row_elements(rows.count, matrix.columns), kGroupedThreads);
  with_code(matrix.tile.code, [&](auto tag) {
    launch(wanted < kMostGroups ? wanted : kMostGroups, kGroupedThreads,
           grouped_rows_kernel<decltype(tag)::kValue>, static_cast<const Byte*>(matrix.data),
           grouped_sizes(matrix.tile, matrix.columns), matrix.columns, rows, to);
  });
}

}  // namespace
}  // namespace berth

// The emulation of the kernels of packed_kernels.cu: one lane after another, in the order in which
// a GPU adds what they have.
#include "cuda/activation_group.h"
#include "cuda/packed_loops.h"

namespace berth {
namespace {

// The sums of 32 lanes, added pair by pair as the butterfly of a warp does.
float warp_sum(const float (&lanes)[kWarpLanes]) {
  float sums[kWarpLanes];
  memcpy(sums, lanes, sizeof sums);
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    for (int lane = 0; lane < offset; ++lane) sums[lane] = plus(sums[lane], sums[lane + offset]);
  }
  return sums[0];
}

// One product of a row and a position.
template <class Block>
float product(const Byte* row, const PackedSizes<Block>& sizes, const ActivationGroup* x) {
  const auto warps = static_cast<std::size_t>(warps_of_row(sizes.steps));
  float result = 0;
  for (std::size_t warp = 0; warp < warps; ++warp) {
    float lanes[kWarpLanes] = {};
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (std::size_t step = warp; step < sizes.steps; step += warps) {
        Share share;
        if (!take_share<Block>(row, step, sizes.blocks, lane, share)) continue;
        lanes[lane] = add_share<Block>(share, x + step * 8, lane, lanes[lane]);
      }
    }
    result = warp == 0 ? warp_sum(lanes) : plus(result, warp_sum(lanes));
  }
  return result;
}

}  // namespace

std::size_t packed_workspace_bytes(std::size_t positions, std::size_t columns) {
  return positions * (columns / 32) * sizeof(ActivationGroup);
}

void multiply_packed_emulated(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                              const PackedOutput& y) {
  require_whole_blocks(matrix);
  auto* groups = static_cast<ActivationGroup*>(workspace);
  for (std::size_t i = 0; i < x.positions * matrix.columns / 32; ++i) {
    groups[i] = make_group(x, 32 * i);
  }
  with_block(matrix.format, [&](auto block) {
    const PackedSizes<decltype(block)> sizes(matrix);
    const auto* data = static_cast<const Byte*>(matrix.data);
    for (std::size_t p = 0; p < x.positions; ++p) {
      for (std::size_t r = 0; r < matrix.rows; ++r) {
        const float value = product(data + r * sizes.row_bytes, sizes, groups + p * sizes.groups);
        put_float(y.data, y.format, p * matrix.rows + r, value);
      }
    }
  });
}

void dequantize_rows_emulated(const PackedMatrix& matrix, const std::int64_t* ids,
                              std::size_t count, const PackedOutput& to) {
  require_whole_blocks(matrix);
  with_block(matrix.format, [&](auto block) {
    using Block = decltype(block);
    const PackedSizes<Block> sizes(matrix);
    for (std::size_t i = 0; i < count * matrix.columns; ++i) {
      const auto* row = static_cast<const Byte*>(matrix.data) +
                        static_cast<std::size_t>(ids[i / matrix.columns]) * sizes.row_bytes;
      const std::size_t column = i % matrix.columns;
      put_float(to.data, to.format, i,
                Block::element(row + column / Block::kElements * Block::kBytes,
                               static_cast<int>(column % Block::kElements)));
    }
  });
}

}  // namespace berth

// The emulation of the kernels of grouped_kernels.cu: one lane after another, in the order in which
// a GPU adds what they have.
#include "cuda/activation_group.h"
#include "cuda/grouped_loops.h"

namespace berth {
namespace {

// The products of a tile's 16 rows and one position.
template <GroupCode kCode>
void tile_products(const Byte* tile, const GroupedSizes& sizes,
                   const typename TileLanes<kCode>::Activations* x, float* out) {
  for (int warp = 0; warp < kGroupedWarps; ++warp) {
    float lanes[kWarpLanes][kTileSums] = {};
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (auto step = static_cast<std::size_t>(warp); step < sizes.steps; step += kGroupedWarps) {
        TileShare share;
        std::size_t cell = 0;
        if (!take_tile<kCode>(tile, sizes, step, lane, cell, share)) continue;
        TileLanes<kCode>::add(share, activations_of<kCode>(x, cell), lane, lanes[lane]);
      }
    }
    for (int offset = kWarpLanes / 2; offset >= kTileSums; offset /= 2) {
      for (int lane = 0; lane < offset; ++lane) {
        for (int r = 0; r < kTileSums; ++r) {
          lanes[lane][r] = plus(lanes[lane][r], lanes[lane + offset][r]);
        }
      }
    }
    for (int row = 0; row < kRowsOfTile; ++row) {
      const float sum = lanes[row / kTileSums][row % kTileSums];
      out[row] = warp == 0 ? sum : plus(out[row], sum);
    }
  }
}

// Makes activations ready in `workspace`.
template <GroupCode kCode>
const typename TileLanes<kCode>::Activations* make_ready(const PackedInput& x, std::size_t columns,
                                                         void* workspace) {
  if constexpr (TileLanes<kCode>::kFloats) {
    auto* floats = static_cast<float*>(workspace);
    for (std::size_t i = 0; i < x.positions * columns; ++i) {
      floats[i] = float_at(x.data, x.format, i);
    }
    return floats;
  } else {
    auto* groups = static_cast<ActivationGroup*>(workspace);
    for (std::size_t i = 0; i < x.positions * columns / 32; ++i) {
      groups[i] = make_group(x, 32 * i);
    }
    return groups;
  }
}

}  // namespace

std::size_t grouped_workspace_bytes(const GroupedMatrix& matrix, std::size_t positions) {
  return is_float_code(matrix.tile.code) ? (positions * matrix.columns * sizeof(float) + 7) / 8 * 8
                                         : packed_workspace_bytes(positions, matrix.columns);
}

void multiply_grouped_emulated(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                               const PackedOutput& y) {
  require_whole_groups(matrix);
  const GroupedSizes sizes = grouped_sizes(matrix.tile, matrix.columns);
  with_code(matrix.tile.code, [&](auto tag) {
    constexpr GroupCode kCode = decltype(tag)::kValue;
    const auto* ready = make_ready<kCode>(x, matrix.columns, workspace);
    const std::size_t each = TileLanes<kCode>::kFloats ? matrix.columns : sizes.cells;
    for (std::size_t p = 0; p < x.positions; ++p) {
      for (std::size_t first = 0; first < matrix.rows; first += kRowsOfTile) {
        float sums[kRowsOfTile];
        const Byte* tile =
            static_cast<const Byte*>(matrix.data) + first / kRowsOfTile * sizes.tile_bytes;
        tile_products<kCode>(tile, sizes, ready + p * each, sums);
        for (std::size_t r = 0; r < kRowsOfTile && first + r < matrix.rows; ++r) {
          put_float(y.data, y.format, p * matrix.rows + first + r, sums[r]);
        }
      }
    }
  });
}

void grouped_rows_emulated(const GroupedMatrix& matrix, const RowChoice& rows,
                           const PackedOutput& to) {
  require_whole_groups(matrix);
  const GroupedSizes sizes = grouped_sizes(matrix.tile, matrix.columns);
  with_code(matrix.tile.code, [&](auto tag) {
    constexpr GroupCode kCode = decltype(tag)::kValue;
    for (std::size_t i = 0; i < row_elements(rows.count, matrix.columns); ++i) {
      const RowElement at = row_element(i, sizes.cells);
      if (at.row >= rows.count) continue;
      put_float(to.data, to.format, at.row * matrix.columns + at.column,
                element_of<kCode>(static_cast<const Byte*>(matrix.data), sizes,
                                  chosen_row(rows, at.row), at.column));
    }
  });
}

}  // namespace berth

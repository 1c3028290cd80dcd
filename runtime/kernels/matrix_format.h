// The formats that products have a kernel for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/group_tile.h"
#include "planner/checkpoint/tile_layout.h"

namespace berth {

enum class MatrixFormat : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kMxfp4,
  // Of weights that are stored in several tensors; group_tiles.h makes their tiles.
  kU4,  // 4-bit codes with a scale and a zero point for each group of columns: GPTQ, AWQ and others
  kF8E4M3,  // with a scale for each group of columns
  kF8E5M2,
};

/// True of formats that are computed on as tiles.
constexpr bool is_tiled(MatrixFormat format) { return format >= MatrixFormat::kQ8_0; }

/// True of formats that exist as tiles only, and whose rows have scales for groups of columns.
constexpr bool is_grouped(MatrixFormat format) { return format >= MatrixFormat::kU4; }

/// True of formats beside which activations are f32; beside others they are integers.
constexpr bool takes_floats(MatrixFormat format) {
  return !is_tiled(format) || format >= MatrixFormat::kF8E4M3;
}

/// A format with the columns that share a scale, where it leaves that open.
struct GroupedForm {
  MatrixFormat format;
  std::size_t group;  // Matrix::group; 0 for MXFP4
};

/// The tiles of a grouped format or of MXFP4, as host memory and GPUs have them.
constexpr GroupTile group_tile(const GroupedForm& form) {
  switch (form.format) {
    case MatrixFormat::kU4:
      return {GroupCode::kU4, form.group};
    case MatrixFormat::kF8E4M3:
      return {GroupCode::kF8E4M3, form.group};
    case MatrixFormat::kF8E5M2:
      return {GroupCode::kF8E5M2, form.group};
    default:
      return {GroupCode::kMxfp4, kCellColumns};
  }
}

}  // namespace berth

// The formats that products have a kernel for.
#pragma once

#include <cstddef>
#include <cstdint>

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
};

/// True of formats that are computed on as tiles.
constexpr bool is_tiled(MatrixFormat format) { return format >= MatrixFormat::kQ8_0; }

inline constexpr std::size_t kTileRows = 16;

}  // namespace berth

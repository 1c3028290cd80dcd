// What files say of matrices in tiles, in the order that Berth's kernels compute on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

// The version of the layout that runtime/kernels/tiles.h describes. Whoever changes where a bit of
// a tile stands raises it: a file with tiles of another version is refused, because its weights
// would be read as other numbers.
inline constexpr std::uint32_t kTilesVersion = 1;

// Rows of a matrix that make a tile. Rows after the last whole tile are as stored elsewhere.
inline constexpr std::size_t kTileRows = 16;

}  // namespace berth

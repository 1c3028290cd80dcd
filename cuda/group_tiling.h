// Makes tiles (group_tile.h) of the packed values of weights that are stored in several tensors, on
// a GPU, stretch by stretch while they are read. The tiles are the bytes that
// runtime/kernels/group_stretch.h makes in host memory; but for a NaN, which has many bits.
//
// Columns must be in the order of their groups (no QuantTables::groups), groups of whole cells, and
// zero points and scales such as the format can say: nothing here looks at that. Stateless.
#pragma once

#include "cuda/dequant.h"
#include "cuda/group_tile.h"

namespace berth {

// Enqueues on `stream`: puts the packed bytes [first, first + bytes) of a weight, which are at
// `from`, where its tiles have them. `first` and `bytes` are multiples of unit_bytes(), `from` is
// aligned to a unit. The tiles of all rows begin at `tiles`, a multiple of 16 bytes, and are zero
// before the first stretch. Stretches of one weight must not run at the same time. Throws Error for
// a group that no cells fill, and where the launch is refused.
void tile_packed_on_device(const QuantLayout& layout, const QuantTables& tables,
                           const GroupTile& tile, const void* from, std::uint64_t first,
                           std::uint64_t bytes, void* tiles, CudaStreamHandle stream);
// The same in host memory.
void tile_packed_emulated(const QuantLayout& layout, const QuantTables& tables,
                          const GroupTile& tile, const void* from, std::uint64_t first,
                          std::uint64_t bytes, void* tiles);

}  // namespace berth

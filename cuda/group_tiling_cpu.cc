// The emulation of the kernel of group_tiling_device.cu: one unit after another.
#include "cuda/group_tiling_checks.h"

namespace berth {

void tile_packed_emulated(const QuantLayout& layout, const QuantTables& tables,
                          const GroupTile& tile, const void* from, std::uint64_t first,
                          std::uint64_t bytes, void* tiles) {
  const TilingJob job = tiling_job(layout, tables, tile, tiles);
  const std::size_t unit = unit_bytes(layout.order);
  const auto* packed = static_cast<const unsigned char*>(from);
  for (std::uint64_t i = 0; i < bytes / unit; ++i) {
    std::uint32_t word = 0;
    memcpy(&word, packed + i * unit, unit);
    tile_unit(job, word, first / unit + i);
  }
}

}  // namespace berth

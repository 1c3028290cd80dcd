// What the device and the host share of group_tiling.h beside a unit's work.
#pragma once

#include <string>

#include "berth/error.h"
#include "cuda/group_tiling.h"
#include "cuda/group_tiling_bits.h"

namespace berth {

// The job of a weight. Throws Error where its groups are not of whole cells: a fault of the caller.
inline TilingJob tiling_job(const QuantLayout& layout, const QuantTables& tables,
                            const GroupTile& tile, void* tiles) {
  if (tile.group % kCellColumns != 0 || layout.columns % tile.group != 0) {
    throw Error("internal error: groups of " + std::to_string(tile.group) +
                " columns do not fill " + std::to_string(layout.columns) + " columns in cells");
  }
  return {layout, tables, tile, entry_offset(tile, layout.columns),
          static_cast<unsigned char*>(tiles)};
}

}  // namespace berth

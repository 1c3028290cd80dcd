// Tiles of quantised weights that are stored in several tensors, made piece by piece while the
// packed values are read.
#pragma once

#include <cstddef>
#include <mutex>

#include "cuda/dequant.h"
#include "runtime/kernels/group_tiles.h"

namespace berth {

/// Puts the packed bytes [at, at + bytes) of a weight, which are at `from`, where its tiles have
/// them, with the scales of the groups that begin there; `at` and `bytes` are multiples of
/// unit_bytes(). The tiles of all rows begin at `tiles`, and are zero before the first stretch; the
/// last one is whole, too. `form`: of grouped_form(), or one whose groups divide its groups.
///
/// Several threads may do this for different stretches of one weight if they share `seams`: a byte
/// that holds elements of two stretches is written while it is locked.
///
/// Returns false where the format cannot say a zero point or a scale; the tiles are then of no use.
/// The columns must be in the order of their groups (no QuantTables::groups).
bool tile_packed(const QuantLayout& layout, const QuantTables& tables, const GroupedForm& form,
                 const std::byte* from, std::size_t at, std::size_t bytes, std::byte* tiles,
                 std::mutex& seams);

}  // namespace berth

// Puts the units of a tensor into another order: a batched transposition.
//
// The tensor is stored as [groups, rows, columns, unit], row-major, and wanted as [groups, columns,
// rows, unit]. That transposes a matrix (one group, where a unit is an element), and it also puts
// interleaved rows back into halves (a group is a head, columns are the halves, a unit is a row).
// Any stretch of the stored bytes can be moved on its own, because where a byte goes follows from
// its offset. Stateless; safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast.h"

namespace berth {

struct Reorder {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t unit = 0;  // its size in bytes
};

// Copies the stored bytes [at, at + bytes), which are at `from`, to where they belong in the whole
// tensor, which begins at `to`. Any alignment will do, and the stretch may begin or end within a
// unit.
void reorder_on_host(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                     void* to);

// Enqueues the same on `stream`, for `from` and `to` in device memory. Throws Error where the
// launch is refused.
void reorder_on_device(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                       void* to, CudaStreamHandle stream);

}  // namespace berth

// Puts the units of a tensor into another order: a batched transposition.
//
// Stored as [groups, rows, columns, unit], row-major; wanted as [groups, columns, rows, unit]. That
// is a transposed matrix (one group, a unit one element) and also interleaved rows put back into
// halves (a group is a head, columns are the halves, a unit is a row). A part of the stored bytes
// can be moved alone: each byte's place follows from its offset.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast.h"

namespace berth {

struct Reorder {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t unit = 0;  // bytes
};

// Moves the stored bytes [at, at + bytes), which are at `from`, to where they belong in the whole
// tensor, which is at `to`. Any alignment; units may be cut.
void reorder_on_host(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                     void* to);

// Enqueues the same in device memory on `stream`. Throws Error where the launch is refused.
void reorder_on_device(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                       void* to, CudaStreamHandle stream);

}  // namespace berth

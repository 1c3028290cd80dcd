// Puts the elements of a tensor into another order, from any strides to row-major.
//
// That transposes a matrix, puts interleaved rows back into halves, and gathers the expanded and
// sliced views of PyTorch. Any stretch of the stored bytes can be moved on its own, because where a
// byte goes follows from its offset: so nothing larger than a stretch is ever held. Stateless; safe
// for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/cast.h"

namespace berth {

// One dimension: how many there are of what stands below it, and the steps between them in bytes,
// where they are stored and where they are wanted. A step of 0 repeats what is stored.
struct ReorderDim {
  std::size_t size = 1;
  std::size_t from = 0;
  std::size_t to = 0;
};

struct Reorder {
  std::vector<ReorderDim> dims;  // those with the largest `from` first
  std::size_t unit = 1;          // bytes that stand together in both
};

// Makes a Reorder of the dimensions of a tensor, given in the tensor's own order, and the bytes
// that stand together below the last of them. No size is 0.
Reorder make_reorder(const std::vector<ReorderDim>& dims, std::size_t unit);

// A part of a stretch whose units are all in the stretch: moved by nested loops, without asking of
// each unit whether it is there.
struct ReorderBox {
  std::size_t from = 0;  // of its first unit in the stretch
  std::size_t to = 0;    // of its first unit in the whole tensor
  std::size_t unit = 0;
  std::vector<ReorderDim> dims;
};

// What of the stored bytes [at, at + bytes) goes where: every byte of them that belongs to the
// tensor is in one box for each place where it goes. They are few: the whole units between two that
// the stretch cuts, for each dimension.
std::vector<ReorderBox> boxes_of(const Reorder& order, std::size_t at, std::size_t bytes);

// Calls work(from, to, bytes) for every unit of `boxes`: its offset in the stretch and in the whole
// tensor, in bytes.
template <typename Work>
void for_each_unit(const std::vector<ReorderBox>& boxes, const Work& work) {
  for (const ReorderBox& box : boxes) {
    std::vector<std::size_t> index(box.dims.size());
    std::size_t from = box.from;
    std::size_t to = box.to;
    for (bool more = true; more;) {
      work(from, to, box.unit);
      more = false;
      for (std::size_t k = box.dims.size(); k-- > 0 && !more;) {
        const ReorderDim& dim = box.dims[k];
        more = ++index[k] < dim.size;
        from += dim.from;
        to += dim.to;
        if (more) break;
        from -= index[k] * dim.from;
        to -= index[k] * dim.to;
        index[k] = 0;
      }
    }
  }
}

// Copies the stored bytes [at, at + bytes), which are at `from`, to where they belong in the whole
// tensor, which begins at `to`. Any alignment will do, and the stretch may begin or end within a
// unit.
void reorder_on_host(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                     void* to);

// Enqueues the same on `stream`, for `from` and `to` in device memory. Throws Error where the
// launch is refused, and for more than kMostReorderDims dimensions.
void reorder_on_device(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                       void* to, CudaStreamHandle stream);

inline constexpr std::size_t kMostReorderDims = 64;  // as many as a tensor of PyTorch has

}  // namespace berth

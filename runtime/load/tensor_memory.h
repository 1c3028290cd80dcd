// Memory that many tensors stand in and that each of them gives back by itself: the whole of it
// goes with the last, but the pages that only one tensor is on go with that one.
//
// This is for tensors that are handed to programs, which keep some and drop others: one that is
// kept must not pin the memory of all. Tensors that share bytes, as in PyTorch's files, are one
// here: their pages stay until the whole goes. Safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "berth/checkpoint.h"

namespace berth {

class TensorMemory {
 public:
  // The tensors' memory, in any order. `owner` keeps it alive; no page of it is shared with memory
  // that is anybody else's. Pages that were given back hold zeros, or what their file holds.
  TensorMemory(std::vector<std::span<std::byte>> tensors, std::shared_ptr<void> owner);
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;

  // Of tensor `i`, until give_back(i) was called as often as this.
  std::byte* hold(std::size_t i);
  void give_back(std::size_t i) noexcept;

 private:
  struct Tensor {
    std::span<std::byte> bytes;
    std::uint32_t holders = 0;
    bool shares = false;  // bytes with another tensor
  };
  std::vector<Tensor> tensors_;  // their holders are guarded by mutex_
  std::mutex mutex_;
  std::shared_ptr<void> owner_;
};

// A copy-on-write mapping of a whole shard: what is written to it stays in this process, and the
// file never changes. Tensor `i` is tensors[i]. Throws Error where the shard cannot be mapped or
// has changed since its header was read.
std::shared_ptr<TensorMemory> map_copy_on_write(const Shard& shard,
                                                std::span<const TensorInfo> tensors);

}  // namespace berth

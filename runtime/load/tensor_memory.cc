#include "runtime/load/tensor_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <string>

#include "berth/error.h"
#include "runtime/io/shard_files.h"

namespace berth {
namespace {

std::uintptr_t page_size() {
  static const auto size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// Gives the kernel the pages that nothing but `bytes` is on.
void drop_pages(std::span<std::byte> bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t first = (begin + page_size() - 1) / page_size() * page_size();
  const std::uintptr_t end = (begin + bytes.size()) / page_size() * page_size();
  // Where the kernel refuses, as for memory that is locked, the pages stay until the whole goes.
  if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

}  // namespace

TensorMemory::TensorMemory(std::vector<std::span<std::byte>> tensors, std::shared_ptr<void> owner)
    : owner_(std::move(owner)) {
  tensors_.reserve(tensors.size());
  for (const std::span<std::byte> bytes : tensors) tensors_.push_back({bytes});
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](std::size_t i) { return tensors[i].data(); });
  std::size_t furthest = 0;  // of those seen, the one that reaches furthest
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::span<std::byte> now = tensors[order[k]];
    if (now.empty()) continue;
    const std::span<std::byte> reach = tensors[order[furthest]];
    if (k > 0 && now.data() < reach.data() + reach.size()) {
      tensors_[order[k]].shares = tensors_[order[furthest]].shares = true;
      if (now.data() + now.size() <= reach.data() + reach.size()) continue;
    }
    furthest = k;
  }
}

std::byte* TensorMemory::hold(std::size_t i) {
  const std::scoped_lock lock(mutex_);
  ++tensors_[i].holders;
  return tensors_[i].bytes.data();
}

void TensorMemory::give_back(std::size_t i) noexcept {
  const std::scoped_lock lock(mutex_);  // or a new holder's writes could be among what is dropped
  Tensor& tensor = tensors_[i];
  if (--tensor.holders == 0 && !tensor.shares) drop_pages(tensor.bytes);
}

std::shared_ptr<TensorMemory> map_copy_on_write(const Shard& shard,
                                                std::span<const TensorInfo> tensors) {
  const Descriptor fd = open_shard(shard);
  const std::uint64_t bytes = shard.file_bytes;
  // MAP_NORESERVE: that all of it could be written to must not count against the memory there is.
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd.get(), 0);
  if (data == MAP_FAILED) {
    throw Error(shard.path.string() + ": cannot map the shard: " + std::strerror(errno));
  }
  const std::shared_ptr<void> owner(data, [bytes](void* all) { munmap(all, bytes); });
  std::vector<std::span<std::byte>> spans;
  spans.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) {
    spans.emplace_back(static_cast<std::byte*>(data) + tensor.begin, tensor.bytes());
  }
  return std::make_shared<TensorMemory>(std::move(spans), owner);
}

}  // namespace berth

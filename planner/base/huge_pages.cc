#include "planner/base/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace berth {
namespace {

// Of memory that was not yet touched.
void prefer_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHuge = 2u << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + kHuge - 1) / kHuge * kHuge;
  const std::uintptr_t last = (begin + bytes) / kHuge * kHuge;
  if (first >= last) return;
  // A wish: what comes back says nothing that would matter.
  (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace

void prefer_huge_heap(std::size_t bytes) {
  // glibc gives large blocks a mapping of their own, up to the size of the largest that was ever
  // given back (mallopt(3), M_MMAP_THRESHOLD, at most 32 MiB). So the first block moves that limit,
  // and the second is the end of the heap, where small pieces are cut once it is given back.
  constexpr std::size_t kLeast = 2u << 20;
  constexpr std::size_t kMost = 31u << 20;
  constexpr std::size_t kOverhead = 64u << 10;
  if (bytes < kLeast) return;
  bytes = std::min(bytes, kMost);
  void* volatile block = std::malloc(bytes + kOverhead);  // volatile: not to be optimised away
  std::free(block);
  block = std::malloc(bytes);
  if (block != nullptr) prefer_huge_pages(block, bytes);
  std::free(block);
}

}  // namespace berth

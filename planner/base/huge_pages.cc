#include "planner/base/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace berth {
namespace {

// Asks for huge pages for memory that has not been touched yet.
void prefer_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHuge = 2u << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + kHuge - 1) / kHuge * kHuge;
  const std::uintptr_t last = (begin + bytes) / kHuge * kHuge;
  if (first >= last) return;
  // This is only a request. Without it everything works as well, so the result does not matter.
  (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace

void prefer_huge_heap(std::size_t bytes) {
  // glibc gives a block a mapping of its own if it is larger than every such block that was freed
  // before (mallopt(3), M_MMAP_THRESHOLD; the threshold grows to 32 MiB at most). So allocating and
  // freeing the first block raises that threshold. The second block then lies at the end of the
  // heap, and once it is freed, small allocations are cut from it.
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

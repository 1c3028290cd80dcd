#include "planner/base/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>

namespace berth {

void prefer_huge_pages(const void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHuge = 2u << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + kHuge - 1) / kHuge * kHuge;
  const std::uintptr_t last = (begin + bytes) / kHuge * kHuge;
  if (first >= last) return;
  // A wish: what comes back says nothing that would matter.
  (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace berth

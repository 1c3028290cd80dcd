// Large tables on large pages.
#pragma once

#include <cstddef>

namespace berth {

// Asks the kernel to back memory that was reserved and not yet touched with large pages where it
// can: a first touch then brings 2 MiB and not 4 KiB. Without effect on tables under 4 MiB and
// where the kernel has no such pages to give.
void prefer_huge_pages(const void* memory, std::size_t bytes);

}  // namespace berth

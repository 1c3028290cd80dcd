// Large tables on large pages.
#pragma once

#include <cstddef>

namespace berth {

// Asks the kernel to back memory that was reserved and not yet touched with large pages where it
// can: a first touch then brings 2 MiB and not 4 KiB. Without effect on tables under 4 MiB and
// where the kernel has no such pages to give.
void prefer_huge_pages(void* memory, std::size_t bytes);

// The same for the next `bytes` that the calling thread will get from malloc in small pieces: the
// heap grows by that much at once, and nothing of it is resident until it is used. A wish, too: an
// allocator that does not grow at its end does nothing with it. Of use from some MiB on.
void prefer_huge_heap(std::size_t bytes);

}  // namespace berth

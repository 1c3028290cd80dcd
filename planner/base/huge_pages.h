// Large tables on large pages.
#pragma once

#include <cstddef>

namespace berth {

// Asks the kernel to back the next `bytes` that the calling thread will get from malloc with large
// pages where it can: a first touch then brings 2 MiB and not 4 KiB. The heap grows by that much at
// once, and nothing of it is resident until it is used. A wish: an allocator that does not grow at
// its end, and a kernel without such pages, do nothing with it. Of use from some MiB on.
void prefer_huge_heap(std::size_t bytes);

}  // namespace berth

// Puts large tables on huge pages, so that filling them costs fewer page faults.
#pragma once

#include <cstddef>

namespace berth {

// Asks the kernel to back the next `bytes` that the calling thread gets from malloc with huge
// pages. A first touch then brings 2 MiB instead of 4 KiB. The heap grows by `bytes` at once, but
// none of that is resident until it is used. This is only a request: an allocator that does not
// grow its heap at the end ignores it, as does a kernel without huge pages. It is worth calling for
// a few MiB or more (below 2 MiB it does nothing), and looks ahead no further than 31 MiB.
void prefer_huge_heap(std::size_t bytes);

}  // namespace berth

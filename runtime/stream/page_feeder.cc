#include "runtime/stream/page_feeder.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <system_error>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace berth {

void PageFeeder::start(std::size_t first) noexcept {
  std::call_once(started_, [&] {
    try {
      thread_ = std::jthread([this, first] { run(first); });
    } catch (const std::system_error&) {
      // No thread is to be had.
    }
  });
}

void PageFeeder::run(std::size_t first) const {
  constexpr std::uintptr_t kStep = 2u << 20;  // a large page, and how soon it stops
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  for (std::size_t i = first; i < count_; ++i) {
    const std::span<std::byte> range = range_(i);
    auto at = reinterpret_cast<std::uintptr_t>(range.data()) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(range.data()) + range.size();
    while (at < end) {
      if (stopping_) return;
      const std::uintptr_t stop =
          std::min((at / kStep + 1) * kStep, (end + page - 1) / page * page);
      // An old kernel, or no memory: the reads will find out.
      if (madvise(reinterpret_cast<void*>(at), stop - at, MADV_POPULATE_WRITE) != 0) return;
      at = stop;
    }
  }
}

}  // namespace berth

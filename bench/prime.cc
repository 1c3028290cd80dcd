// Touches memory and frees it again, so that whatever is measured next does not pay for the host's
// page faults.
//
// A hypervisor may take free memory back (free page reporting, a balloon). The first touch of a
// page that has been free for some seconds is then a fault in the host: 0.3 GB/s instead of 20 GB/s
// where this was seen. A loader that starts later, or needs more memory, would be charged for that.
// A pass that runs at the speed of memory shows that the pages are there; up to four passes are
// made.
//
//   prime BYTES
#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr double kBacked = 2.5e9;  // bytes/s of first touches that cause no fault in the host

// Maps `bytes` bytes, writes to every page and unmaps them. Returns the rate in bytes per second.
double touch(std::uint64_t bytes) {
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return -1;
  madvise(block, bytes, MADV_HUGEPAGE);
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([=] {
      volatile char* p = static_cast<volatile char*>(block);
      for (std::uint64_t i = bytes / threads * t, end = bytes / threads * (t + 1); i < end;
           i += 4096) {
        p[i] = 1;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  munmap(block, bytes);
  return static_cast<double>(bytes) / took.count();
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t bytes = argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
  if (bytes == 0) {
    std::fprintf(stderr, "usage: prime BYTES\n");
    return 64;
  }
  for (int pass = 0; pass < 4; ++pass) {
    const double rate = touch(bytes);
    if (rate < 0) {
      std::perror("prime: mmap");
      return 1;
    }
    if (rate >= kBacked) return 0;
  }
  std::fprintf(stderr, "prime: memory stays slow to touch; figures will be too\n");
  return 0;
}

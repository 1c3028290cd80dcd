// Reads memory and does nothing else: the rate that bounds whatever reads its weights once a token.
//
// Each thread reads its own part of one buffer on huge pages, which it touched first. Which order
// of reads is fastest differs between processors, so there are two: one stream, and four at a time;
// the faster one counts. A figure is the median of some passes, because neighbours come and go.
//
//   ram_read BYTES THREADS      prints {"bytes_per_second": R, "threads": N}
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int kPasses = 9;
constexpr std::size_t kAhead = 1024;  // bytes: how far a read is announced
using Word = std::uint64_t __attribute__((vector_size(64)));

// Sums what is at `data`; `Streams` parts of it are read by turns, 256 bytes of each.
template <int Streams>
std::uint64_t read_all(const char* data, std::size_t bytes) {
  const std::size_t part = bytes / Streams / 256 * 256;
  Word sums[4] = {};
  for (std::size_t at = 0; at < part; at += 256) {
    for (int stream = 0; stream < Streams; ++stream) {
      const char* from = data + stream * part + at;
      for (int i = 0; i < 4; ++i) {
        __builtin_prefetch(from + 64 * i + kAhead);
        sums[i] += *reinterpret_cast<const Word*>(from + 64 * i);
      }
    }
  }
  const Word sum = sums[0] + sums[1] + sums[2] + sums[3];
  std::uint64_t total = 0;
  for (int i = 0; i < 8; ++i) total += sum[i];
  return total;
}

// Calls work(thread) on every thread and returns the seconds until the last one has ended.
template <class Work>
double timed(unsigned threads, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) workers.emplace_back([&work, t] { work(t); });
  for (std::thread& worker : workers) worker.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t bytes = argc == 3 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const unsigned threads = argc == 3 ? static_cast<unsigned>(std::atoi(argv[2])) : 0;
  if (threads == 0 || bytes < (1u << 20) * threads) {
    std::fprintf(stderr, "usage: ram_read BYTES THREADS (at least 1 MiB a thread)\n");
    return 64;
  }
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) {
    std::perror("ram_read: mmap");
    return 1;
  }
  madvise(block, bytes, MADV_HUGEPAGE);
  char* data = static_cast<char*>(block);
  const std::size_t part = bytes / threads / 4096 * 4096;
  timed(threads, [&](unsigned t) { std::memset(data + t * part, 1, part); });

  double best = 0;
  std::atomic<std::uint64_t> sum{0};  // the compiler must not drop the reads
  for (const auto read : {read_all<1>, read_all<4>}) {
    std::vector<double> rates(kPasses);
    for (double& rate : rates) {
      const double seconds =
          timed(threads, [&](unsigned t) { sum += read(data + t * part, part); });
      rate = static_cast<double>(part * threads) / seconds;
    }
    std::nth_element(rates.begin(), rates.begin() + kPasses / 2, rates.end());
    best = std::max(best, rates[kPasses / 2]);
  }
  if (sum == 0) return 1;  // all bytes are 1
  std::printf("{\"bytes_per_second\": %.0f, \"threads\": %u}\n", best, threads);
  return 0;
}

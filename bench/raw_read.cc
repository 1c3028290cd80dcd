// Measures what the hardware gives: reads whole files with a few threads and prints the rate as
// JSON. The loaders are compared with these limits.
//
//   raw_read --direct FILE...   O_DIRECT into a buffer that each thread reuses: the disk's rate
//   raw_read --fresh FILE...    buffered, each byte to its own address in new huge pages: what a
//                               warm load into private memory costs at least (with --direct: a
//                               cold one)
//
//   --threads N (4), --chunk BYTES (8388608; what a thread takes at a time), --request BYTES
//   (as --chunk; what one call to the kernel asks for)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr std::uint64_t kHuge = 2 << 20;

struct Chunk {
  int fd;
  std::uint64_t offset;
  std::uint64_t bytes;        // up to the end of the file, not rounded
  std::uint64_t destination;  // offset in the fresh block
};

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "raw_read: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

char* map_huge(std::uint64_t bytes) {
  void* p = mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) fail("mmap");
  char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<std::uintptr_t>(p), kHuge));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

// Reads a whole chunk. O_DIRECT wants whole blocks, and the last block of a file comes back short.
void read_chunk(const Chunk& chunk, char* to, bool direct, std::uint64_t request) {
  std::uint64_t done = 0;
  while (done < chunk.bytes) {
    const std::uint64_t left = std::min(request, chunk.bytes - done);
    const ssize_t n = pread(chunk.fd, to + done, direct ? round_up(left, 4096) : left,
                            static_cast<off_t>(chunk.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("read at " + std::to_string(chunk.offset + done));
    done += static_cast<std::uint64_t>(n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool direct = false;
  bool fresh = false;
  unsigned threads = 4;
  std::uint64_t chunk_bytes = 8 << 20;
  std::uint64_t request = UINT64_MAX;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--direct") {
      direct = true;
    } else if (a == "--fresh") {
      fresh = true;
    } else if (a == "--threads" && i + 1 < argc) {
      threads = static_cast<unsigned>(std::atoi(argv[++i]));
    } else if (a == "--chunk" && i + 1 < argc) {
      chunk_bytes = round_up(std::strtoull(argv[++i], nullptr, 10), 4096);
    } else if (a == "--request" && i + 1 < argc) {
      request = round_up(std::strtoull(argv[++i], nullptr, 10), 4096);
    } else {
      files.emplace_back(a);
    }
  }
  if (files.empty() || threads == 0 || chunk_bytes == 0 || request == 0) {
    std::fprintf(stderr,
                 "usage: raw_read [--direct] [--fresh] [--threads N] [--chunk N] [--request N] "
                 "FILE...\n");
    return 64;
  }

  const auto start = std::chrono::steady_clock::now();
  std::vector<Chunk> chunks;
  std::uint64_t total = 0;
  std::uint64_t block_bytes = 0;
  for (const std::string& file : files) {
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    struct stat info {};
    if (fd < 0 || fstat(fd, &info) != 0) fail(file);
    const auto size = static_cast<std::uint64_t>(info.st_size);
    for (std::uint64_t at = 0; at < size; at += chunk_bytes) {
      const std::uint64_t n = size - at < chunk_bytes ? size - at : chunk_bytes;
      chunks.push_back({fd, at, n, block_bytes + at});
    }
    total += size;
    block_bytes += round_up(size, kHuge);
  }
  char* block = fresh ? map_huge(block_bytes) : nullptr;

  std::atomic<std::size_t> next{0};
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&] {
      char* own = fresh ? nullptr : map_huge(round_up(chunk_bytes, kHuge));
      for (std::size_t i; (i = next.fetch_add(1)) < chunks.size();) {
        read_chunk(chunks[i], fresh ? block + chunks[i].destination : own, direct, request);
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("{\"seconds\": %.6f, \"bytes\": %llu, \"threads\": %u, \"chunk\": %llu}\n",
              took.count(), static_cast<unsigned long long>(total), threads,
              static_cast<unsigned long long>(chunk_bytes));
  return 0;
}

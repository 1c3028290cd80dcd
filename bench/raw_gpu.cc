// Measures what the hardware gives on the way to a GPU, and prints it as JSON. The loaders are
// compared with these limits. Needs CUDA (nvcc -x cu, or any C++20 compiler and cudart).
//
//   raw_gpu pinned              copies from page-locked host memory, and the cost of getting memory
//   raw_gpu stream FILE...      files through page-locked buffers to the GPU, in the plainest way
//
//   --direct (O_DIRECT), --threads N (16), --chunk BYTES (2097152), --device N (0)
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
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

[[noreturn]] void fail(const std::string& what, const char* why) {
  std::fprintf(stderr, "raw_gpu: %s: %s\n", what.c_str(), why);
  std::exit(1);
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(what, cudaGetErrorString(status));
}

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

class Watch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Allocates host memory on huge pages and touches every page.
char* host_memory(std::uint64_t bytes) {
  void* p =
      mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fail("mmap", std::strerror(errno));
  char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<std::uintptr_t>(p), kHuge));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  std::memset(aligned, 1, bytes);
  return aligned;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Copies `bytes` bytes in chunks of `chunk` on one stream, and returns the median rate in bytes per
// second, timed by CUDA events.
double pinned_rate(const char* host, char* device, std::uint64_t bytes, std::uint64_t chunk) {
  cudaStream_t stream;
  cudaEvent_t begin;
  cudaEvent_t end;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<double> rates;
  for (int i = 0; i < 12; ++i) {
    check(cudaEventRecord(begin, stream), "event");
    for (std::uint64_t at = 0; at < bytes; at += chunk) {
      check(cudaMemcpyAsync(device + at, host + at, chunk, cudaMemcpyHostToDevice, stream), "copy");
    }
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "copy");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "clock");
    if (i >= 2) rates.push_back(static_cast<double>(bytes) / (static_cast<double>(ms) / 1e3));
  }
  return median(rates);
}

int pinned() {
  constexpr std::uint64_t kBytes = 128 << 20;
  constexpr std::uint64_t kWeights = 16ull << 30;
  char* host = host_memory(kBytes);
  Watch watch;
  check(cudaHostRegister(host, kBytes, cudaHostRegisterPortable), "cudaHostRegister");
  const double whole = watch.seconds();
  watch = {};
  check(cudaHostUnregister(host), "cudaHostUnregister");
  const double unlock = watch.seconds();
  std::printf("{\"register_128mib_seconds\": %.6f, \"unregister_128mib_seconds\": %.6f", whole,
              unlock);
  for (const std::uint64_t step : {2ull << 20, 8ull << 20, 32ull << 20}) {
    watch = {};
    for (std::uint64_t at = 0; at < kBytes; at += step) {
      check(cudaHostRegister(host + at, step, cudaHostRegisterPortable), "cudaHostRegister");
    }
    const double lock = watch.seconds();
    watch = {};
    for (std::uint64_t at = 0; at < kBytes; at += step) {
      check(cudaHostUnregister(host + at), "cudaHostUnregister");
    }
    std::printf(", \"register_in_%llumib_seconds\": %.6f, \"unregister_in_%llumib_seconds\": %.6f",
                static_cast<unsigned long long>(step >> 20), lock,
                static_cast<unsigned long long>(step >> 20), watch.seconds());
  }
  void* weights = nullptr;
  watch = {};
  check(cudaMalloc(&weights, kWeights), "cudaMalloc");
  std::printf(", \"malloc_16gib_seconds\": %.6f", watch.seconds());
  check(cudaHostRegister(host, kBytes, cudaHostRegisterPortable), "cudaHostRegister");
  for (const std::uint64_t chunk : {1ull << 20, 2ull << 20, 8ull << 20, 128ull << 20}) {
    std::printf(", \"pinned_%llumib_bytes_per_second\": %.0f",
                static_cast<unsigned long long>(chunk >> 20),
                pinned_rate(host, static_cast<char*>(weights), kBytes, chunk));
  }
  watch = {};
  check(cudaFree(weights), "cudaFree");
  std::printf(", \"free_16gib_seconds\": %.6f}\n", watch.seconds());
  return 0;
}

struct Chunk {
  int fd;
  std::uint64_t offset;
  std::uint64_t bytes;  // up to the end of the file, not rounded
  std::uint64_t to;
};

// Reads a whole chunk. O_DIRECT wants whole blocks, and the last block of a file comes back short.
void read_chunk(const Chunk& chunk, char* to, bool direct) {
  for (std::uint64_t done = 0; done < chunk.bytes;) {
    const std::uint64_t left = chunk.bytes - done;
    const ssize_t n = pread(chunk.fd, to + done, direct ? round_up(left, 4096) : left,
                            static_cast<off_t>(chunk.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("read", std::strerror(errno));
    done += static_cast<std::uint64_t>(n);
  }
}

// Each thread has two buffers and a stream: it fills one buffer while the other is copied. Memory,
// locks and the context are set up before the clock starts.
int stream(const std::vector<std::string>& files, bool direct, unsigned threads,
           std::uint64_t chunk_bytes, int device) {
  std::vector<Chunk> chunks;
  std::uint64_t total = 0;
  for (const std::string& file : files) {
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    struct stat info {};
    if (fd < 0 || fstat(fd, &info) != 0) fail(file, std::strerror(errno));
    const auto size = static_cast<std::uint64_t>(info.st_size);
    for (std::uint64_t at = 0; at < size; at += chunk_bytes) {
      chunks.push_back({fd, at, std::min(chunk_bytes, size - at), total + at});
    }
    total += size;
  }
  char* weights = nullptr;
  check(cudaMalloc(reinterpret_cast<void**>(&weights), total), "cudaMalloc");
  const std::uint64_t buffer = round_up(chunk_bytes, kHuge);
  char* ring = host_memory(2 * threads * buffer);
  check(cudaHostRegister(ring, 2 * threads * buffer, cudaHostRegisterPortable), "cudaHostRegister");
  std::vector<cudaStream_t> streams(threads);
  std::vector<cudaEvent_t> events(2 * threads);
  for (cudaStream_t& s : streams) {
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "stream");
  }
  for (cudaEvent_t& e : events) {
    check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "event");
  }
  check(cudaDeviceSynchronize(), "set-up");

  const Watch watch;
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      check(cudaSetDevice(device), "device");
      for (unsigned turn = 0;; turn ^= 1) {
        const std::size_t i = next.fetch_add(1);
        if (i >= chunks.size()) break;
        char* mine = ring + (2 * t + turn) * buffer;
        check(cudaEventSynchronize(events[2 * t + turn]), "copy");
        read_chunk(chunks[i], mine, direct);
        check(cudaMemcpyAsync(weights + chunks[i].to, mine, chunks[i].bytes, cudaMemcpyHostToDevice,
                              streams[t]),
              "copy");
        check(cudaEventRecord(events[2 * t + turn], streams[t]), "event");
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  check(cudaDeviceSynchronize(), "copy");
  const double seconds = watch.seconds();
  std::printf("{\"seconds\": %.6f, \"bytes\": %llu, \"threads\": %u, \"chunk\": %llu}\n", seconds,
              static_cast<unsigned long long>(total), threads,
              static_cast<unsigned long long>(chunk_bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bool direct = false;
  unsigned threads = 16;
  std::uint64_t chunk_bytes = 2 << 20;
  int device = 0;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--direct") {
      direct = true;
    } else if (a == "--threads" && i + 1 < argc) {
      threads = static_cast<unsigned>(std::atoi(argv[++i]));
    } else if (a == "--chunk" && i + 1 < argc) {
      chunk_bytes = round_up(std::strtoull(argv[++i], nullptr, 10), 4096);
    } else if (a == "--device" && i + 1 < argc) {
      device = std::atoi(argv[++i]);
    } else {
      words.emplace_back(a);
    }
  }
  const bool measures_pinned = words.size() == 1 && words[0] == "pinned";
  const bool streams = words.size() > 1 && words[0] == "stream";
  if ((!measures_pinned && !streams) || threads == 0 || chunk_bytes == 0) {
    std::fprintf(stderr,
                 "usage: raw_gpu [--direct] [--threads N] [--chunk N] [--device N] "
                 "pinned|stream FILE...\n");
    return 64;
  }
  check(cudaSetDevice(device), "device");
  check(cudaFree(nullptr), "context");
  if (measures_pinned) return pinned();
  words.erase(words.begin());
  return stream(words, direct, threads, chunk_bytes, device);
}

#include "runtime/io/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <vector>

#include "berth/error.h"
#include "planner/base/error_kinds.h"
#include "runtime/io/shard_files.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace berth {
namespace {

std::uint64_t page_size() { return static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)); }

// "VmRSS:     1234 kB" -> bytes; 0 where the key is missing.
std::uint64_t status_bytes(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return 0;
  const char* begin = text.data() + at + key.size();
  const char* end = text.data() + text.size();
  while (begin < end && (*begin == ' ' || *begin == '\t')) ++begin;
  std::uint64_t kilobytes = 0;
  std::from_chars(begin, end, kilobytes);
  return kilobytes * 1024;
}

}  // namespace

HostMemory host_memory() {
  const Descriptor fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  char text[8192];
  const ssize_t count = fd.get() < 0 ? 0 : ::read(fd.get(), text, sizeof text);
  const std::string_view status(text, count > 0 ? static_cast<std::size_t>(count) : 0);
  return {status_bytes(status, "VmRSS:"), status_bytes(status, "RssAnon:"),
          status_bytes(status, "RssFile:"), status_bytes(status, "RssShmem:")};
}

HostArena::HostArena(std::uint64_t bytes, const std::string& purpose) {
  if (bytes == 0) return;
  const std::uint64_t wanted = (bytes + page_size() - 1) / page_size() * page_size();
  const std::uint64_t reserved = wanted + kHugePage;
  void* raw = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) {
    throw DoesNotFit("cannot get " + std::to_string(bytes) + " bytes of host memory for " +
                     purpose + ": " + std::strerror(errno));
  }
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(raw, aligned - start);
  if (const std::uintptr_t end = start + reserved; end > aligned + wanted) {
    munmap(reinterpret_cast<void*>(aligned + wanted), end - (aligned + wanted));
  }
  data_ = reinterpret_cast<std::byte*>(aligned);
  bytes_ = wanted;
  madvise(data_, bytes_, MADV_HUGEPAGE);  // where the kernel refuses, small pages do
}

HostArena::~HostArena() {
  if (data_) munmap(data_, bytes_);
}

HostArena::HostArena(HostArena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

HostArena& HostArena::operator=(HostArena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileMapping::FileMapping(const Shard& shard) : bytes_(shard.file_bytes) {
  const Descriptor fd = open_shard(shard);
  void* data = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) {
    throw Error(shard.path.string() + ": cannot map the shard: " + std::strerror(errno) +
                "; use --cpu-memory private");
  }
  data_ = static_cast<std::byte*>(data);
}

FileMapping::~FileMapping() { munmap(data_, bytes_); }

bool FileMapping::populate(std::uint64_t begin, std::uint64_t end) const {
  begin = begin / page_size() * page_size();
  for (;;) {
    if (madvise(data_ + begin, end - begin, MADV_POPULATE_READ) == 0) return true;
    if (errno == EINVAL) return touch_by_calls(data_ + begin, end - begin);
    if (errno != EAGAIN && errno != EINTR) return false;
  }
}

namespace {

// Of [begin, end) of a mapping, how many bytes are in RAM; nothing where the kernel does not say.
std::optional<std::uint64_t> count_resident(std::byte* data, std::uint64_t begin,
                                            std::uint64_t end) {
  constexpr std::uint64_t kWindow = 64u << 20;
  std::vector<unsigned char> pages(std::min(kWindow, end - begin) / page_size() + 2);
  std::uint64_t total = 0;
  while (begin < end) {
    const std::uint64_t first = begin / page_size() * page_size();
    const std::uint64_t stop = std::min(end, first + kWindow);
    if (mincore(data + first, stop - first, pages.data()) != 0) return std::nullopt;
    for (std::uint64_t at = begin; at < stop;) {
      const std::uint64_t next = std::min(stop, at / page_size() * page_size() + page_size());
      if (pages[(at - first) / page_size()] & 1u) total += next - at;
      at = next;
    }
    begin = stop;
  }
  return total;
}

}  // namespace

std::uint64_t FileMapping::resident(std::uint64_t begin, std::uint64_t end,
                                    std::uint64_t look) const {
  constexpr std::uint64_t kMostSample = 1u << 20;
  const std::uint64_t bytes = end - begin;
  if (bytes <= look) return count_resident(data_, begin, end).value_or(0);
  const std::uint64_t sample = std::clamp<std::uint64_t>(look, 1, kMostSample);
  const std::uint64_t samples = std::max<std::uint64_t>(1, look / sample);
  std::uint64_t found = 0;
  for (std::uint64_t i = 0; i < samples; ++i) {
    const std::uint64_t at = begin + bytes / samples * i;
    found += count_resident(data_, at, std::min(at + sample, end)).value_or(0);
  }
  const double share = static_cast<double>(found) / static_cast<double>(samples * sample);
  return static_cast<std::uint64_t>(share * static_cast<double>(bytes));
}

bool touch_by_calls(const std::byte* data, std::uint64_t bytes) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  const Descriptor out(ends[0]);
  const Descriptor in(ends[1]);
  std::vector<std::byte> block(32u << 10);  // half of what a pipe holds
  for (std::uint64_t at = 0; at < bytes;) {
    const ssize_t wrote = ::write(in.get(), data + at, std::min(block.size(), bytes - at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    at += static_cast<std::uint64_t>(wrote);
    for (ssize_t left = wrote; left > 0;) {
      const ssize_t got = ::read(out.get(), block.data(), static_cast<std::size_t>(left));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      left -= got;
    }
  }
  return true;
}

struct PeakSampler::State {
  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
};

PeakSampler::PeakSampler(const HostMemory& baseline)
    : baseline_(baseline.anonymous + baseline.shared), state_(std::make_unique<State>()) {
  try {
    thread_ = std::thread([this] {
      std::unique_lock lock(state_->mutex);
      do sample();
      while (!state_->wake.wait_for(lock, std::chrono::milliseconds(5),
                                    [this] { return state_->stopping; }));
    });
  } catch (const std::system_error&) {
    // A load without this thread still works; the threads that it cannot do without throw Error.
  }
}

PeakSampler::~PeakSampler() { stop(); }

void PeakSampler::sample() {
  const HostMemory now = host_memory();
  const std::uint64_t used = now.anonymous + now.shared;
  if (used > baseline_) peak_ = std::max(peak_, used - baseline_);
}

void PeakSampler::look() {
  const std::scoped_lock lock(state_->mutex);
  sample();
}

std::uint64_t PeakSampler::stop() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one();
  if (thread_.joinable()) thread_.join();
  sample();
  return peak_;
}

}  // namespace berth

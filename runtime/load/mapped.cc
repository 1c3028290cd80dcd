#include "runtime/load/mapped.h"

#include <algorithm>
#include <vector>

#include "berth/error.h"
#include "runtime/io/memory.h"
#include "runtime/io/read_errors.h"
#include "runtime/load/streamer.h"

namespace berth {
namespace {

constexpr std::uint64_t kWindow = 64u << 20;  // bytes that one thread reads in at a time
constexpr std::uint64_t kBuffer = 1u << 20;   // stays in the processor's cache

std::vector<MappedRange> windows_of(std::span<const MappedRange> ranges) {
  std::vector<MappedRange> windows;
  for (const MappedRange& range : ranges) {
    for (std::uint64_t at = range.begin; at < range.end;) {
      const std::uint64_t stop = std::min(range.end, at + kWindow);
      windows.push_back({range.shard, at, stop});
      at = stop;
    }
  }
  return windows;
}

}  // namespace

void prefault(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
              const Mappings& mappings, std::size_t threads, WorkControl& control) {
  const std::vector<MappedRange> windows = windows_of(ranges);
  run_workers(windows.size(), threads, control, [&](std::size_t, std::size_t i) {
    const MappedRange& window = windows[i];
    if (!mappings.at(window.shard)->populate(window.begin, window.end)) {
      throw Error(position_in_shard(checkpoint, window.shard, window.begin) +
                  ": cannot read the mapped shard: it became shorter, or the disk fails");
    }
    control.bytes_done += window.end - window.begin;
  });
}

void verify_mapped(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
                   Verifier& verifier, const WrapReader& wrap, std::size_t threads,
                   WorkControl& control) {
  const std::vector<MappedRange> windows = windows_of(ranges);
  run_workers(windows.size(), threads, control, [&](std::size_t, std::size_t i) {
    const MappedRange& window = windows[i];
    const Descriptor fd = open_shard(checkpoint.shards[window.shard]);
    std::unique_ptr<Reader> reader = make_pread_reader(fd.get());
    if (wrap) reader = wrap(std::move(reader), window.shard, IoEngine::kBuffered);
    const HostArena buffer(kBuffer, "verifying");
    for (std::uint64_t at = window.begin; at < window.end;) {
      const std::uint64_t stop = std::min(window.end, at + kBuffer);
      require_complete(checkpoint, window.shard, stop,
                       read_range(*reader, at, stop, buffer.data(), false));
      verifier.add(window.shard, at, {buffer.data(), stop - at});
      control.bytes_done += stop - at;
      at = stop;
    }
  });
}

}  // namespace berth

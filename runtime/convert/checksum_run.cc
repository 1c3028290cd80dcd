#include "runtime/convert/checksum_run.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "runtime/io/read_errors.h"
#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/digest_pass.h"
#include "runtime/load/schedule.h"
#include "runtime/load/sizing.h"
#include "runtime/load/staging.h"
#include "runtime/verify/digest.h"

namespace berth {
namespace {

// File bytes [begin, end) of a shard: tensors without a gap between them.
struct Run {
  std::uint32_t shard;
  std::uint64_t begin;
  std::uint64_t end;
  std::uint64_t step;         // of the grid that it is cut on
  std::uint64_t first_chunk;  // the number of the first of its chunks
};

// What to read, as numbered chunks. Bytes between tensors are left out. A chunk is worked out when
// it is asked for, so a file of many terabytes takes no more memory than a small one.
class Chunks {
 public:
  Chunks(const Checkpoint& checkpoint, const std::vector<std::uint64_t>& chunk_bytes_of_shard)
      : uses_(checkpoint.shards.size(), 0) {
    for (const TensorInfo& tensor : checkpoint.tensors) {
      if (tensor.bytes() == 0) continue;
      if (runs_.empty() || runs_.back().shard != tensor.shard || tensor.begin > runs_.back().end) {
        close_run();
        const std::uint64_t step = chunk_bytes_of_shard[tensor.shard];
        runs_.push_back({tensor.shard, tensor.begin, tensor.begin, step, count_});
      }
      runs_.back().end = std::max(runs_.back().end, tensor.end);  // tensors may share bytes
    }
    close_run();
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t bytes() const { return bytes_; }
  // By shard: how many chunks are read from it.
  const std::vector<std::uint32_t>& uses() const { return uses_; }

  Chunk at(std::uint64_t number) const {
    const Run& run = *std::prev(std::upper_bound(
        runs_.begin(), runs_.end(), number,
        [](std::uint64_t at, const Run& other) { return at < other.first_chunk; }));
    const std::uint64_t line = run.begin / run.step + (number - run.first_chunk);  // of the grid
    Chunk chunk;
    chunk.shard = run.shard;
    chunk.begin = std::max(run.begin, line * run.step);
    chunk.end = std::min(run.end, (line + 1) * run.step);
    return chunk;
  }

 private:
  void close_run() {
    if (runs_.empty()) return;
    const Run& run = runs_.back();
    const std::uint64_t chunks = (run.end - 1) / run.step - run.begin / run.step + 1;
    uses_[run.shard] += static_cast<std::uint32_t>(chunks);
    count_ += chunks;
    bytes_ += run.end - run.begin;
  }

  std::vector<Run> runs_;
  std::vector<std::uint32_t> uses_;
  std::uint64_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Checksums compute_checksums(const Checkpoint& checkpoint, const LoadOptions& options) {
  require_staging(options.staging);
  const auto start = std::chrono::steady_clock::now();
  const std::uint64_t most = chunk_for(options.staging);
  std::vector<FileSystemFacts> systems;
  std::vector<std::uint64_t> chunk_bytes;  // by shard
  std::uint64_t largest = kLeastChunk;
  for (const Shard& shard : checkpoint.shards) {
    systems.push_back(file_system_of(shard.path));
    const bool cold = is_cold(shard, systems.back(), options.io);
    chunk_bytes.push_back(cold ? std::min(most, kColdChunk) : most);
    largest = std::max(largest, chunk_bytes.back());
  }
  const Chunks chunks(checkpoint, chunk_bytes);
  const std::uint64_t slot_size = slot_bytes(largest);
  const std::size_t wanted = largest > kColdChunk ? reading_threads() : kDiskThreads;
  const std::size_t threads = std::min<std::size_t>(wanted, options.staging / slot_size);
  StagingRing ring(static_cast<std::uint32_t>(threads), slot_size, threads, {});

  ShardFiles files(checkpoint.shards, std::move(systems), chunks.uses(), {options.io}, {});

  WorkControl control;
  control.cancel = options.cancel;
  control.on_progress = options.on_progress;
  control.elapsed = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  control.bytes_total = chunks.bytes();

  Checksums checksums(checkpoint.tensors.size(), digest_of({}));
  const auto note = [&](std::uint32_t tensor, const Digest& digest) {
    checksums[tensor] = digest;  // each tensor once, so no two threads write the same element
  };
  TensorDigests digests(checkpoint, note);
  run_workers(chunks.count(), threads, control, [&](std::size_t thread, std::size_t i) {
    const Chunk chunk = chunks.at(i);
    const StagingRing::Slot slot = ring.acquire(thread);
    std::byte* at_begin = slot.data + chunk.begin % kBlock;
    require_complete(checkpoint, chunk.shard, chunk.end,
                     files.read(chunk.shard, chunk.begin, chunk.end, at_begin));
    digests.add(chunk.shard, chunk.begin, {at_begin, chunk.end - chunk.begin});
    ring.release(slot, {});
    control.bytes_done += chunk.end - chunk.begin;
  });
  digest_one_by_one(checkpoint, digests.deferred(), {}, digest_threads(options.staging), control,
                    note);
  return checksums;
}

std::string checksum_text(const Checkpoint& checkpoint, const LoadOptions& options) {
  return format_checksums(checkpoint, compute_checksums(checkpoint, options));
}

}  // namespace berth

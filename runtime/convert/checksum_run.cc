#include "runtime/convert/checksum_run.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/io/read_errors.h"
#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/schedule.h"
#include "runtime/load/sizing.h"
#include "runtime/load/staging.h"
#include "runtime/verify/digest.h"

namespace berth {
namespace {

// The chunks to read: runs of tensors without a gap between them, cut on a grid. Bytes between
// tensors are left out.
std::vector<Chunk> chunks_of(const Checkpoint& checkpoint,
                             const std::vector<std::uint64_t>& chunk_bytes_of_shard) {
  std::vector<Chunk> chunks;
  std::uint32_t shard = kNone;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const auto cut = [&] {
    while (begin < end) {
      const std::uint64_t step = chunk_bytes_of_shard[shard];
      const std::uint64_t stop = std::min(end, (begin / step + 1) * step);
      Chunk chunk;
      chunk.shard = shard;
      chunk.begin = begin;
      chunk.end = stop;
      chunks.push_back(chunk);
      begin = stop;
    }
  };
  for (const TensorInfo& tensor : checkpoint.tensors) {
    if (tensor.shard != shard || tensor.begin > end) {
      cut();
      shard = tensor.shard;
      begin = end = tensor.begin;
    }
    end = std::max(end, tensor.end);  // tensors may share bytes
  }
  cut();
  return chunks;
}

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
  const std::vector<Chunk> chunks = chunks_of(checkpoint, chunk_bytes);
  const std::uint64_t slot_size = slot_bytes(largest);
  const std::size_t wanted = largest > kColdChunk ? reading_threads() : kDiskThreads;
  const std::size_t threads = std::min<std::size_t>(wanted, options.staging / slot_size);
  StagingRing ring(static_cast<std::uint32_t>(threads), slot_size, threads, {});

  std::vector<std::uint32_t> uses(checkpoint.shards.size(), 0);
  for (const Chunk& chunk : chunks) ++uses[chunk.shard];
  ShardFiles files(checkpoint.shards, std::move(systems), std::move(uses), {options.io}, {});

  WorkControl control;
  control.cancel = options.cancel;
  control.on_progress = options.on_progress;
  control.elapsed = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const Chunk& chunk : chunks) control.bytes_total += chunk.end - chunk.begin;

  Checksums checksums(checkpoint.tensors.size(), digest_of({}));
  TensorDigests digests(checkpoint, [&](std::uint32_t tensor, const Digest& digest) {
    checksums[tensor] = digest;  // each tensor once, so no two threads write the same element
  });
  run_workers(chunks.size(), threads, control, [&](std::size_t thread, std::size_t i) {
    const Chunk& chunk = chunks[i];
    const StagingRing::Slot slot = ring.acquire(thread);
    std::byte* at_begin = slot.data + chunk.begin % kBlock;
    require_complete(checkpoint, chunk.shard, chunk.end,
                     files.read(chunk.shard, chunk.begin, chunk.end, at_begin));
    digests.add(chunk.shard, chunk.begin, {at_begin, chunk.end - chunk.begin});
    ring.release(slot, {});
    control.bytes_done += chunk.end - chunk.begin;
  });
  return checksums;
}

std::string checksum_text(const Checkpoint& checkpoint, const LoadOptions& options) {
  return format_checksums(checkpoint, compute_checksums(checkpoint, options));
}

}  // namespace berth

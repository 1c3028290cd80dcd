// The schedule: which bytes of which shard go where, in file order. Pure computation, no I/O.
//
// Every needed byte appears once, whatever the number of tensors and devices that want it, and
// where tensors overlap in the file; bytes that no tensor wants never appear. Neighbours are
// merged, and runs are cut into chunks on a fixed grid of file offsets, so that chunks meet on
// block boundaries.
//
// A chunk has one of two lanes. In place: bytes that end unchanged in private host memory have one
// place to go, and are read straight there, or from the disk through bounce buffers; the arena is
// laid out so that memory and file agree modulo kBlock and no two runs share a block, which lets
// O_DIRECT write it too. Staged: everything else is read into a staging slot, and its segments go
// on from there, copied or converted, perhaps to several devices.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "berth/plan.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/reader.h"
#include "runtime/quant/weight_tables.h"

namespace berth {

// Where a tensor will be when the load is done.
enum class DestinationKind : std::uint8_t {
  kNothing,  // no bytes: unplaced, or a buffer that the executor computes
  kArena,    // `offset` bytes into the memory of its device
  kMapped,   // `offset` bytes into the mapping of its shard
  kDisk,     // left in its shard
  kOffload,  // `offset` bytes into the offload file of the disk: not what is stored
};
struct Destination {
  DestinationKind kind = DestinationKind::kNothing;
  std::uint32_t source = kNone;  // index into Checkpoint::tensors
  std::uint32_t device = kNone;  // index into Plan::devices
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // in memory; on disk: what they will be once fetched
};

// Part of a staged chunk bound for one place: file bytes [from, from + bytes) become elements of
// `dtype` at `to` in the memory of `device`. Of a quantised weight, `to` is where the whole of it
// begins: its tables tell where each value belongs.
struct Segment {
  std::uint64_t from = 0;
  std::uint64_t bytes = 0;
  std::uint64_t to = 0;
  std::uint32_t device = 0;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  const StoredForm* form = nullptr;  // of the model's checkpoint; null: as it is
  // Where the form reorders: offset of `from` in the tensor, which is at `to`.
  std::uint64_t at = 0;
  std::uint32_t weight = kNone;  // index into Schedule::weights where it is dequantised

  bool as_it_is() const { return stored == dtype && form == nullptr && weight == kNone; }
};

// File bytes [begin, end) of a shard, read at once.
struct Chunk {
  std::uint32_t shard = 0;
  bool in_place = false;
  bool cold = false;         // its shard is read from the disk
  std::uint32_t device = 0;  // in place: whose memory
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t to = 0;             // in place: where `begin` goes
  std::uint32_t first_segment = 0;  // staged: index into Schedule::segments
  std::uint32_t segments = 0;
};

// A run of a shard that is handed out as a mapping.
struct MappedRange {
  std::uint32_t shard = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct Schedule {
  std::vector<Chunk> chunks;  // by shard, then by offset
  std::vector<Segment> segments;
  std::vector<MappedRange> mapped;         // by shard, then by offset; merged
  std::vector<Destination> destinations;   // by TensorId
  std::vector<std::uint64_t> arena_bytes;  // by device: memory to allocate; disk: the offload file
  std::vector<std::uint64_t> held_bytes;   // by device: of that, tensors; the rest aligns them
  std::vector<PackedWeight> weights;       // that are dequantised, in the order of their segments
  std::vector<QuantScheme> schemes;        // theirs
  std::uint64_t largest_tables = 0;        // PackedWeight::made.table_bytes at most
  std::uint64_t bytes_to_read = 0;         // sum of all chunks, and of what stands beside weights
  std::uint64_t staged_chunks = 0;
  std::uint64_t bounced_chunks = 0;  // in place and cold
  bool any_cached = false;           // some chunk's shard is not cold
  std::uint64_t largest_staged = 0;  // bytes of memory the largest staged chunk touches, in blocks
};

// Chunks of a shard that is read from the disk. Side by side they should stay neighbours:
// eight threads 1 MiB apart read one disk at 2.1 GB/s, 8 MiB apart at 1.6 (bench/results).
inline constexpr std::uint64_t kColdChunk = 512u << 10;

struct ScheduleOptions {
  std::uint64_t chunk_bytes = 4u << 20;         // staged chunks; a multiple of kBlock
  std::function<bool(std::uint32_t)> mappable;  // may this shard be mapped? Default: every one
  // Is this shard on the disk rather than in the page cache? Its chunks are kColdChunk at most.
  // Asked only for shards that are read, each once. Default: none is.
  std::function<bool(std::uint32_t)> cold;
  // Where a staged tensor goes, for memory that is laid out already: bytes from its beginning. No
  // two tensors may share a place. Default: one after another, aligned.
  std::function<std::uint64_t(TensorId)> place_at;
};

// Bytes a chunk of `chunk_bytes` can take in a slot: it may begin a little below the grid so as not
// to cut an element, and is read in whole blocks.
constexpr std::uint64_t slot_bytes(std::uint64_t chunk_bytes) { return chunk_bytes + 2 * kBlock; }

// Throws Error where the model has no weights, or the plan is for another model.
void require_plan_of(const Model& model, const Plan& plan);

// Throws Error as require_plan_of() does, and naming the tensor for one without a place or without
// a source, or for a conversion that does not exist.
Schedule make_schedule(const Model& model, const Plan& plan, const ScheduleOptions& options);

}  // namespace berth

// The schedule: which bytes of which shard go where, in the order of the files. It is computed from
// the model and the plan alone, without I/O.
//
// Every byte that is needed is read once, however many tensors and devices want it, also where
// tensors overlap in the file. Bytes that no tensor wants are not read. Neighbours are merged to
// runs, and runs are cut into chunks on a fixed grid of file offsets, so that chunks meet on block
// boundaries.
//
// A chunk takes one of two ways. In place: bytes that end unchanged in private host memory, and
// only there, are read straight to their destination, or from the disk through bounce buffers. The
// memory is laid out so that addresses agree with file offsets modulo kBlock, and so that no two
// runs share a block; therefore O_DIRECT can write to it, too. Staged: all other bytes are read
// into a staging slot, and the chunk's segments are copied or converted from there, perhaps to
// several devices.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "berth/plan.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/reader.h"
#include "runtime/kernels/matrix.h"
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

// What becomes of the order of a matrix.
enum class Tiling : std::uint8_t {
  kKept,    // it stays as it is stored, in rows or in tiles
  kMade,    // rows are put in tiles
  kUndone,  // tiles are put in rows
};

struct Destination {
  DestinationKind kind = DestinationKind::kNothing;
  std::uint32_t source = kNone;  // index into Checkpoint::tensors
  std::uint32_t device = kNone;  // index into Plan::devices
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // that it takes in memory; of a tensor on disk: once it is fetched
  Tiling tiling = Tiling::kKept;
  std::uint32_t matrix = kNone;  // of a matrix in tiles, in memory or stored: index into tiled
};

// Bytes of a staged chunk that are bound for one destination: file bytes [from, from + bytes)
// become elements of `dtype`, `to` bytes into the memory of `device`. Where they are reordered,
// tiled, taken out of tiles or dequantised, `to` is where the whole tensor begins, because they may
// belong anywhere in it.
struct Segment {
  std::uint64_t from = 0;
  std::uint64_t bytes = 0;
  std::uint64_t to = 0;
  std::uint32_t device = 0;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  const StoredForm* form = nullptr;  // belongs to the model's checkpoint; null: elements as stored
  std::uint64_t at = 0;  // where `to` is the tensor's: offset of `from` in the stored tensor
  std::uint32_t weight = kNone;  // where it is dequantised: index into Schedule::weights
  Tiling tiling = Tiling::kKept;
  std::uint32_t matrix = kNone;  // where tiles are made or undone: index into Schedule::tiled

  // Whether the bytes are only copied.
  bool as_it_is() const {
    return stored == dtype && form == nullptr && weight == kNone && tiling == Tiling::kKept;
  }
};

// File bytes [begin, end) of a shard, which are read at once, by one thread.
struct Chunk {
  std::uint32_t shard = 0;
  bool in_place = false;
  bool cold = false;         // the shard is read from the disk, not from the page cache
  std::uint32_t device = 0;  // in place: to whose memory
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t to = 0;             // in place: offset in that memory where `begin` goes
  std::uint32_t first_segment = 0;  // staged: index into Schedule::segments
  std::uint32_t segments = 0;
};

// Bytes of a shard that are not read: their tensors are handed out as a mapping of the file.
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
  std::vector<PackedWeight> weights;       // to be dequantised, in the order of their segments
  std::vector<QuantScheme> schemes;        // which PackedWeight::made.scheme indexes
  std::vector<MatrixShape> tiled;          // matrices in tiles, in memory or stored
  std::uint64_t largest_tile = 0;          // of those that are undone, in bytes
  std::uint64_t largest_tables = 0;        // the largest PackedWeight::made.table_bytes
  std::uint64_t bytes_to_read = 0;         // sum of all chunks and of the parts of weights
  std::uint64_t staged_chunks = 0;
  std::uint64_t bounced_chunks = 0;  // in place and cold
  bool any_cached = false;           // some chunk is not cold
  std::uint64_t largest_staged = 0;  // of a staged chunk: bytes of all blocks that it touches
};

// The largest chunk of a shard that is read from the disk, in bytes. Small chunks keep the reads of
// different threads close to each other: eight threads that read 1 MiB apart got 2.1 GB/s from one
// disk, 8 MiB apart 1.6 GB/s (bench/results).
inline constexpr std::uint64_t kColdChunk = 512u << 10;

struct ScheduleOptions {
  std::uint64_t chunk_bytes = 4u << 20;         // of staged chunks; a multiple of kBlock
  std::function<bool(std::uint32_t)> mappable;  // whether a shard may be mapped. Default: each may
  // Whether a shard is on the disk rather than in the page cache; then its chunks are kColdChunk at
  // most. Asked once for each shard that is read. Default: none is on the disk.
  std::function<bool(std::uint32_t)> cold;
  bool tile = false;  // as LoadOptions::tile
  // Whether a device is one whose weights are in host memory, so that they can be tiled. Default:
  // the CPU and the disk are.
  std::function<bool(std::uint32_t)> in_host_memory;
  // For memory whose layout is given: the offset in it, in bytes, where a staged tensor goes. No
  // two tensors may overlap there. Default: one after another, aligned.
  std::function<std::uint64_t(TensorId)> destination_offset;
};

// How many bytes a chunk of `chunk_bytes` can take in a slot: it may begin a little below a line of
// the grid, so that no element is cut, and it is read in whole blocks.
constexpr std::uint64_t slot_bytes(std::uint64_t chunk_bytes) { return chunk_bytes + 2 * kBlock; }

// The shape of a stored tensor that kernels compute on in tiles; nothing for any other.
std::optional<MatrixShape> tiled_shape(const TensorInfo& info);

// Throws Error where the model has no weights, or the plan is for another model.
void require_plan_of(const Model& model, const Plan& plan);

// The schedule for loading `model` as `plan` says. Throws Error as require_plan_of() does; also,
// naming the tensor, where one has no device or is not in the checkpoint, or where no conversion to
// its dtype exists.
Schedule make_schedule(const Model& model, const Plan& plan, const ScheduleOptions& options);

}  // namespace berth

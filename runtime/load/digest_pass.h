// Hashes tensors one by one, each read from its first byte to its last. Of a checkpoint in which
// very many tensors share bytes, these are what TensorDigests defers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/verify/digest.h"

namespace berth {

// How many threads may do this within `staging` bytes of memory.
std::size_t digest_threads(std::uint64_t staging);

// Reads `tensors` (indices into Checkpoint::tensors) with pread on up to `threads` threads, and
// calls `done` for each, from any of these threads. Adds what is to be read to control.bytes_total.
// Throws Error naming shard, tensor and offset where a file cannot be read or has changed,
// Interrupted when control.cancel becomes true, and what `done` throws.
void digest_one_by_one(const Checkpoint& checkpoint, std::span<const std::uint32_t> tensors,
                       const WrapReader& wrap, std::size_t threads, WorkControl& control,
                       const TensorDigests::Done& done);

}  // namespace berth

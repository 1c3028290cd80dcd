// Mapped tensors, read in before load() returns: on request, and to verify them.
#pragma once

#include <span>

#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/loaded_model.h"
#include "runtime/verify/checksums.h"

namespace berth {

// Reads `ranges` into the page cache and maps their pages, in windows, on up to `threads` threads.
// Throws Error naming shard, tensor and offset.
void prefault(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
              const Mappings& mappings, std::size_t threads, WorkControl& control);

// Shows `ranges` to the verifier. Reads them with pread, which fills the same page cache and cannot
// raise SIGBUS, through a small buffer a thread. Throws Error as prefault() does.
void verify_mapped(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
                   Verifier& verifier, const WrapReader& wrap, std::size_t threads,
                   WorkControl& control);

}  // namespace berth

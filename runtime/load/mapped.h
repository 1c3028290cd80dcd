// Reads mapped tensors in before load() returns: on request, and to verify them.
#pragma once

#include <span>

#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/loaded_model.h"
#include "runtime/verify/checksums.h"

namespace berth {

// Reads `ranges` into the page cache and maps their pages, one window of 64 MiB after another, on
// up to `threads` threads. Throws Error naming shard, tensor and offset where a file became shorter
// or the disk fails; Interrupted when control.cancel becomes true.
void prefault(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
              const Mappings& mappings, std::size_t threads, WorkControl& control);

// Reads `ranges` and gives their bytes to the verifier. They are read with pread, through a small
// buffer for each thread: that fills the page cache like touching the mapping, and cannot raise
// SIGBUS. Throws as prefault() does, and where a checksum differs.
void verify_mapped(const Checkpoint& checkpoint, std::span<const MappedRange> ranges,
                   Verifier& verifier, const WrapReader& wrap, std::size_t threads,
                   WorkControl& control);

}  // namespace berth

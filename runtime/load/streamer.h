// The streamer: carries out a schedule. Workers read chunks side by side and send them on.
#pragma once

#include <span>

#include "runtime/io/bounce.h"
#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/schedule.h"
#include "runtime/load/staging.h"
#include "runtime/verify/checksums.h"

namespace berth {

// What bytes pass through. `ring` may be null where nothing is staged; without `bounce`, what is
// cold is read in place, too.
struct Staging {
  StagingRing* ring = nullptr;
  BounceBuffers* bounce = nullptr;
};

// Reads every chunk to its place. `sinks` has one entry a device of the plan, null where nothing
// goes; the staging ring is one for `threads` threads. `verifier` may be null; else it sees every
// byte as read. `table_share`: host memory for what stands beside quantised weights, see
// TableCache. When it returns all bytes are in place, on devices too. Throws Error naming shard,
// tensor and offset; no thread, read or copy is then in flight.
void stream(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
            std::span<const std::unique_ptr<DeviceSink>> sinks, Staging staging, Verifier* verifier,
            std::size_t threads, std::uint64_t table_share, WorkControl& control);

}  // namespace berth

// The streamer carries out a schedule: threads read its chunks side by side and send them to their
// destinations.
#pragma once

#include <span>

#include "runtime/io/bounce.h"
#include "runtime/io/shard_files.h"
#include "runtime/io/workers.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/schedule.h"
#include "runtime/load/staging.h"
#include "runtime/quant/zero_points.h"
#include "runtime/verify/checksums.h"

namespace berth {

// The memory that bytes pass through. `ring` may be null where nothing is staged. Without `bounce`,
// also what comes from the disk is read straight to its destination.
struct Staging {
  StagingRing* ring = nullptr;
  BounceBuffers* bounce = nullptr;
};

// What the sink of a device (an index into the plan's) needs where it is a GPU.
SinkNeeds sink_needs(const Schedule& schedule, std::uint32_t device);

// Reads every chunk and sends its bytes to their destinations. `sinks` has an entry for each device
// of the plan, which is null where nothing goes there. The staging ring must have been made for
// `threads` threads. `verifier` may be null; else it gets every byte as it was read. `table_share`
// is how many bytes of host memory the tables of quantised weights may take (see TableCache). When
// this function returns, all bytes are where they belong, also on devices. Returns what the zero
// points of quantised weights were. Throws Error naming shard, tensor and offset, or Interrupted;
// then no thread, read or copy is in flight any more.
ZeroPointNotes stream(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
                      std::span<const std::unique_ptr<DeviceSink>> sinks, Staging staging,
                      Verifier* verifier, std::size_t threads, std::uint64_t table_share,
                      WorkControl& control);

}  // namespace berth

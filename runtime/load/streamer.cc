#include "runtime/load/streamer.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "planner/base/position.h"
#include "runtime/io/read_errors.h"
#include "runtime/load/untile.h"
#include "runtime/quant/table_cache.h"

namespace berth {
namespace {

class Streamer {
 public:
  Streamer(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
           std::span<const std::unique_ptr<DeviceSink>> sinks, Staging staging, Verifier* verifier,
           std::uint64_t table_share, WorkControl& control)
      : checkpoint_(checkpoint),
        schedule_(schedule),
        files_(files),
        sinks_(sinks),
        staging_(staging),
        verifier_(verifier),
        control_(control),
        tables_(checkpoint, schedule.weights, schedule.schemes, table_share, control.cancel,
                [this](std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                       std::byte* at_begin) { read_part(shard, begin, end, at_begin); }) {}

  void run(std::size_t thread, const Chunk& chunk) {
    try {
      send(thread, chunk);
    } catch (...) {
      // Threads that wait for tables must not go on waiting for this chunk.
      tables_.stop(std::current_exception());
      throw;
    }
  }

  ZeroPointNotes zero_points() { return tables_.zero_points(); }

 private:
  void send(std::size_t thread, const Chunk& chunk) {
    if (chunk.in_place) {
      std::byte* to = sinks_[chunk.device]->memory() + chunk.to;
      if (chunk.cold && staging_.bounce) {
        run_bounced(chunk, to);
      } else {
        read(chunk, to);
      }
    } else {
      run_staged(thread, chunk);
    }
    control_.bytes_done += chunk.end - chunk.begin;
  }

  void read(const Chunk& chunk, std::byte* to) {
    const ReadOutcome outcome = files_.read(chunk.shard, chunk.begin, chunk.end, to);
    require_complete(checkpoint_, chunk.shard, chunk.end, outcome);
    if (verifier_) verifier_->add(chunk.shard, chunk.begin, {to, chunk.end - chunk.begin});
  }

  void read_part(std::uint32_t shard, std::uint64_t begin, std::uint64_t end, std::byte* at_begin) {
    const ReadOutcome outcome = files_.read(shard, begin, end, at_begin);
    require_complete(checkpoint_, shard, end, outcome);
    if (verifier_) verifier_->add(shard, begin, {at_begin, end - begin});
    control_.bytes_done += end - begin;
  }

  void run_bounced(const Chunk& chunk, std::byte* to) {
    BounceBuffers::Buffer buffer = staging_.bounce->take();
    std::byte* at_begin = buffer.get() + chunk.begin % kBlock;
    read(chunk, at_begin);
    staging_.bounce->copy(std::move(buffer), at_begin, chunk.end - chunk.begin, to);
  }

  void run_staged(std::size_t thread, const Chunk& chunk) {
    const StagingRing::Slot slot = staging_.ring->acquire(thread);
    std::byte* at_begin = slot.data + chunk.begin % kBlock;
    read(chunk, at_begin);
    const std::span segments(&schedule_.segments[chunk.first_segment], chunk.segments);
    subtract_ones(chunk, segments, at_begin);
    std::vector<DeviceSink*> busy;
    for (const Segment& segment : segments) {
      DeviceSink* sink = sinks_[segment.device].get();
      if (std::find(busy.begin(), busy.end(), sink) != busy.end()) continue;
      busy.push_back(sink);
      copy(*sink, jobs_for(segment.device, chunk, segments, at_begin), slot, chunk.shard,
           segment.from);
    }
    copy_untiled(chunk, segments, at_begin, slot);
    for (const Segment& segment : segments) {
      if (segment.weight != kNone) dequantize(segment, chunk, at_begin, slot);
    }
    staging_.ring->release(slot, std::move(busy));
  }

  // The jobs of one device but those whose bytes are put in rows or dequantised.
  std::vector<CopyJob> jobs_for(std::uint32_t device, const Chunk& chunk,
                                std::span<const Segment> segments, const std::byte* at_begin) {
    std::vector<CopyJob> jobs;
    for (const Segment& segment : segments) {
      if (segment.device != device || segment.weight != kNone ||
          segment.tiling == Tiling::kUndone) {
        continue;
      }
      jobs.push_back({at_begin + (segment.from - chunk.begin), segment.bytes, segment.to,
                      segment.stored, segment.dtype, segment.form, segment.at, nullptr,
                      segment.matrix == kNone ? nullptr : &schedule_.tiled[segment.matrix]});
    }
    return jobs;
  }

  // Takes matrices out of their tiles in the slot, once for all segments that share the bytes, and
  // copies the rows. This comes last, because others may want the same bytes in tiles: those are in
  // host memory, so that they are copied by now.
  void copy_untiled(const Chunk& chunk, std::span<const Segment> segments, std::byte* at_begin,
                    const StagingRing::Slot& slot) {
    std::vector<UntiledPiece> pieces;
    std::vector<CopyJob> jobs;
    std::uint64_t done = chunk.begin;  // bytes up to here are in rows
    for (const Segment& segment : segments) {
      if (segment.tiling != Tiling::kUndone) continue;
      std::byte* const stretch = at_begin + (segment.from - chunk.begin);
      if (segment.from >= done) {
        pieces =
            untile_in_place(schedule_.tiled[segment.matrix], stretch, segment.at, segment.bytes);
        done = segment.from + segment.bytes;
      }
      jobs.clear();
      for (const UntiledPiece& piece : pieces) {
        CopyJob job;
        job.from = stretch + piece.from;
        job.bytes = piece.bytes;
        job.to = segment.to + converted_bytes(piece.at, segment.stored, segment.dtype);
        job.stored = segment.stored;
        job.dtype = segment.dtype;
        jobs.push_back(job);
      }
      copy(*sinks_[segment.device], jobs, slot, chunk.shard, segment.from);
    }
  }

  // Values that are stored plus one are put right in the slot, once for all segments that share
  // them.
  static void subtract_ones(const Chunk& chunk, std::span<const Segment> segments,
                            std::byte* at_begin) {
    std::uint64_t done = chunk.begin;
    for (const Segment& segment : segments) {
      if (segment.form == nullptr || !segment.form->plus_one || segment.from < done) continue;
      subtract_one(at_begin + (segment.from - chunk.begin), segment.bytes);
      done = segment.from + segment.bytes;
    }
  }

  void copy(DeviceSink& sink, std::span<const CopyJob> jobs, const StagingRing::Slot& slot,
            std::uint32_t shard, std::uint64_t from) {
    if (jobs.empty()) return;
    with_position([&] { return position_in_shard(checkpoint_, shard, from); },
                  [&] { sink.copy(jobs, slot.index); });
  }

  // Handles one segment, from taking its tables to giving them back, so that no thread holds tables
  // while it waits for those of another weight.
  void dequantize(const Segment& segment, const Chunk& chunk, const std::byte* at_begin,
                  const StagingRing::Slot& slot) {
    DeviceSink& sink = *sinks_[segment.device];
    const std::shared_ptr<const WeightTables> tables = tables_.acquire(segment.weight);
    CopyJob job;
    job.from = at_begin + (segment.from - chunk.begin);
    job.bytes = segment.bytes;
    job.to = segment.to;
    job.stored = segment.stored;
    job.dtype = segment.dtype;
    job.tables = tables.get();
    job.at = segment.from - checkpoint_.tensors[schedule_.weights[segment.weight].source].begin;
    copy(sink, {&job, 1}, slot, chunk.shard, segment.from);
    if (!tables_.release(segment.weight)) return;
    for (const auto& each : sinks_) {
      if (each) each->forget(tables.get());
    }
  }

  const Checkpoint& checkpoint_;
  const Schedule& schedule_;
  ShardFiles& files_;
  std::span<const std::unique_ptr<DeviceSink>> sinks_;
  Staging staging_;
  Verifier* verifier_;
  WorkControl& control_;
  TableCache tables_;
};

}  // namespace

SinkNeeds sink_needs(const Schedule& schedule, std::uint32_t device) {
  SinkNeeds needs;
  for (const Segment& segment : schedule.segments) {
    if (segment.device != device || segment.as_it_is()) continue;
    const bool reorders = segment.form != nullptr && segment.form->reorders();
    needs.raw |= reorders || segment.weight != kNone || segment.stored != segment.dtype;
    needs.converted |= reorders && segment.stored != segment.dtype;
    needs.zeros |= segment.weight != kNone && is_block_format(segment.dtype);
  }
  return needs;
}

ZeroPointNotes stream(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
                      std::span<const std::unique_ptr<DeviceSink>> sinks, Staging staging,
                      Verifier* verifier, std::size_t threads, std::uint64_t table_share,
                      WorkControl& control) {
  Streamer streamer(checkpoint, schedule, files, sinks, staging, verifier, table_share, control);
  try {
    run_workers(schedule.chunks.size(), threads, control, [&](std::size_t thread, std::size_t i) {
      streamer.run(thread, schedule.chunks[i]);
    });
    if (staging.bounce) staging.bounce->finish();
    for (const auto& sink : sinks) {
      if (sink) sink->finish();
    }
  } catch (...) {
    for (const auto& sink : sinks) {
      if (sink) sink->drain();
    }
    throw;
  }
  return streamer.zero_points();
}

}  // namespace berth

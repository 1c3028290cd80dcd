#include "runtime/load/streamer.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "runtime/quant/table_cache.h"

namespace berth {
namespace {

class Streamer {
 public:
  Streamer(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
           std::span<const std::unique_ptr<CopyEngine>> engines, Staging staging,
           Verifier* verifier, std::uint64_t side_share, WorkControl& control)
      : checkpoint_(checkpoint),
        schedule_(schedule),
        files_(files),
        engines_(engines),
        staging_(staging),
        verifier_(verifier),
        control_(control),
        tables_(checkpoint, schedule.weights, schedule.schemes, side_share, control.cancel,
                [this](std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                       std::byte* at_begin) { read_part(shard, begin, end, at_begin); }) {}

  void run(std::size_t thread, const Chunk& chunk) {
    try {
      send(thread, chunk);
    } catch (...) {
      // Who waits for tables must not wait for this chunk.
      tables_.stop(std::current_exception());
      throw;
    }
  }

 private:
  void send(std::size_t thread, const Chunk& chunk) {
    if (chunk.in_place) {
      std::byte* to = engines_[chunk.device]->memory() + chunk.to;
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
    const std::span pieces(&schedule_.pieces[chunk.first_piece], chunk.pieces);
    shift(chunk, pieces, at_begin);
    std::vector<CopyEngine*> busy;
    std::vector<CopyJob> jobs;
    for (const ChunkPiece& piece : pieces) {
      CopyEngine* engine = engines_[piece.device].get();
      if (std::find(busy.begin(), busy.end(), engine) != busy.end()) continue;
      busy.push_back(engine);
      jobs.clear();
      for (const ChunkPiece& other : pieces) {
        if (other.device != piece.device || other.weight != kNone) continue;
        jobs.push_back({at_begin + (other.from - chunk.begin), other.bytes, other.to, other.stored,
                        other.dtype, other.form, other.at});
      }
      copy(*engine, jobs, slot, chunk.shard, piece.from);
    }
    for (const ChunkPiece& piece : pieces) {
      if (piece.weight != kNone) dequantize(piece, chunk, at_begin, slot);
    }
    staging_.ring->release(slot, std::move(busy));
  }

  // Values stored one too great are put right in the slot, once for all that want them.
  static void shift(const Chunk& chunk, std::span<const ChunkPiece> pieces, std::byte* at_begin) {
    std::uint64_t done = chunk.begin;
    for (const ChunkPiece& piece : pieces) {
      if (piece.form == nullptr || !piece.form->plus_one || piece.from < done) continue;
      take_away_one(at_begin + (piece.from - chunk.begin), piece.bytes);
      done = piece.from + piece.bytes;
    }
  }

  void copy(CopyEngine& engine, std::span<const CopyJob> jobs, const StagingRing::Slot& slot,
            std::uint32_t shard, std::uint64_t from) {
    if (jobs.empty()) return;
    try {
      engine.copy(jobs, slot.index);
    } catch (const Error& error) {
      throw Error(place_in_shard(checkpoint_, shard, from) + error.what());
    }
  }

  // One piece at a time, so that no thread holds tables while it waits for others.
  void dequantize(const ChunkPiece& piece, const Chunk& chunk, const std::byte* at_begin,
                  const StagingRing::Slot& slot) {
    CopyEngine& engine = *engines_[piece.device];
    const std::shared_ptr<const WeightTables> tables = tables_.acquire(piece.weight);
    CopyJob job;
    job.from = at_begin + (piece.from - chunk.begin);
    job.bytes = piece.bytes;
    job.to = piece.to;
    job.stored = piece.stored;
    job.dtype = piece.dtype;
    job.tables = tables.get();
    job.at = piece.from - checkpoint_.tensors[schedule_.weights[piece.weight].source].begin;
    copy(engine, {&job, 1}, slot, chunk.shard, piece.from);
    if (!tables_.release(piece.weight)) return;
    for (const auto& each : engines_) {
      if (each) each->forget(tables.get());
    }
  }

  const Checkpoint& checkpoint_;
  const Schedule& schedule_;
  ShardFiles& files_;
  std::span<const std::unique_ptr<CopyEngine>> engines_;
  Staging staging_;
  Verifier* verifier_;
  WorkControl& control_;
  TableCache tables_;
};

}  // namespace

std::string place_in_shard(const Checkpoint& checkpoint, std::uint32_t shard,
                           std::uint64_t offset) {
  const auto& tensors = checkpoint.tensors;
  auto after = std::upper_bound(tensors.begin(), tensors.end(), std::pair(shard, offset),
                                [](const auto& place, const TensorInfo& tensor) {
                                  return place < std::pair(tensor.shard, tensor.begin);
                                });
  std::string text = checkpoint.shards[shard].path.string() + ": ";
  // Empty tensors may stand between the byte and the tensor it belongs to.
  while (after != tensors.begin() && (--after)->shard == shard) {
    if (after->end > offset) {
      text += "tensor '" + after->name + "', ";
      break;
    }
  }
  return text + "byte " + std::to_string(offset) + ": ";
}

void require_complete(const Checkpoint& checkpoint, std::uint32_t shard, std::uint64_t end,
                      const ReadOutcome& outcome) {
  if (outcome.reached == end) return;
  const std::string place = place_in_shard(checkpoint, shard, outcome.reached);
  if (outcome.error != 0) throw Error(place + "cannot read: " + std::strerror(outcome.error));
  // A read that began behind the end tells only that it did: the file itself says where that is.
  const Shard& file = checkpoint.shards[shard];
  const std::optional<std::uint64_t> bytes = bytes_now(file);
  if (!bytes || *bytes > outcome.reached) {
    throw Error(place + "the file is truncated: reading it ends here, " +
                std::to_string(end - outcome.reached) + " bytes short");
  }
  throw Error(place + "the file is truncated: it has " + std::to_string(*bytes) + " bytes now, " +
              std::to_string(file.file_bytes) + " when its header was read");
}

void stream(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
            std::span<const std::unique_ptr<CopyEngine>> engines, Staging staging,
            Verifier* verifier, std::size_t threads, std::uint64_t side_share,
            WorkControl& control) {
  Streamer streamer(checkpoint, schedule, files, engines, staging, verifier, side_share, control);
  try {
    run_workers(schedule.chunks.size(), threads, control, [&](std::size_t thread, std::size_t i) {
      streamer.run(thread, schedule.chunks[i]);
    });
    if (staging.bounce) staging.bounce->finish();
    for (const auto& engine : engines) {
      if (engine) engine->finish();
    }
  } catch (...) {
    for (const auto& engine : engines) {
      if (engine) engine->drain();
    }
    throw;
  }
}

}  // namespace berth

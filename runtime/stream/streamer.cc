#include "runtime/stream/streamer.h"

#include <algorithm>
#include <cstring>

namespace berth {
namespace {

class Streamer {
 public:
  Streamer(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
           std::span<const std::unique_ptr<CopyEngine>> engines, StagingRing* ring,
           Verifier* verifier)
      : checkpoint_(checkpoint),
        schedule_(schedule),
        files_(files),
        engines_(engines),
        ring_(ring),
        verifier_(verifier) {}

  void run(const Chunk& chunk) {
    if (chunk.in_place) {
      read(chunk, engines_[chunk.device]->memory() + chunk.to);
    } else {
      run_staged(chunk);
    }
  }

 private:
  void read(const Chunk& chunk, std::byte* to) {
    const ReadOutcome outcome = files_.read(chunk.shard, chunk.begin, chunk.end, to);
    require_complete(checkpoint_, chunk.shard, chunk.end, outcome);
    if (verifier_) verifier_->add(chunk.shard, chunk.begin, {to, chunk.end - chunk.begin});
  }

  void run_staged(const Chunk& chunk) {
    const StagingRing::Slot slot = ring_->acquire();
    std::byte* at_begin = slot.data + chunk.begin % kBlock;
    read(chunk, at_begin);
    const std::span pieces(&schedule_.pieces[chunk.first_piece], chunk.pieces);
    std::vector<CopyEngine*> busy;
    std::vector<CopyJob> jobs;
    for (const Piece& piece : pieces) {
      CopyEngine* engine = engines_[piece.device].get();
      if (std::find(busy.begin(), busy.end(), engine) != busy.end()) continue;
      busy.push_back(engine);
      jobs.clear();
      for (const Piece& other : pieces) {
        if (other.device != piece.device) continue;
        jobs.push_back({at_begin + (other.from - chunk.begin), other.bytes, other.to, other.stored,
                        other.dtype});
      }
      try {
        engine->copy(jobs, slot.index);
      } catch (const Error& error) {
        throw Error(place_in_shard(checkpoint_, chunk.shard, piece.from) + error.what());
      }
    }
    ring_->release(slot, std::move(busy));
  }

  const Checkpoint& checkpoint_;
  const Schedule& schedule_;
  ShardFiles& files_;
  std::span<const std::unique_ptr<CopyEngine>> engines_;
  StagingRing* ring_;
  Verifier* verifier_;
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
  if (outcome.error == 0) {
    throw Error(place + "the file is truncated: it ends here, " +
                std::to_string(end - outcome.reached) + " bytes short");
  }
  throw Error(place + "cannot read: " + std::strerror(outcome.error));
}

void stream(const Checkpoint& checkpoint, const Schedule& schedule, ShardFiles& files,
            std::span<const std::unique_ptr<CopyEngine>> engines, StagingRing* ring,
            Verifier* verifier, std::size_t threads, WorkControl& control) {
  Streamer streamer(checkpoint, schedule, files, engines, ring, verifier);
  try {
    run_workers(schedule.chunks.size(), threads, control, [&](std::size_t i) {
      const Chunk& chunk = schedule.chunks[i];
      streamer.run(chunk);
      control.bytes_done += chunk.end - chunk.begin;
    });
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

// The time model: what a piece of the chain costs on a device, from the device's rates.
//
// A token (decode): max(bytes touched / memory bandwidth, FLOPs / throughput). Touched are all
// dense weights, 1 - (1 - k/E)^batch of the experts, one embedding row, and the KV cache of
// prompt + half the new tokens (or the window). FLOPs: 2 an active parameter and 4 an attended
// position and channel. Where a device's matrix-vector rate was measured, weights are read at that.
// The prompt (prefill): the same with prompt x the FLOPs and one pass over the bytes; the head sees
// the last position of each sequence.
// Pieces on disk are read, then run on the host or on a GPU (DiskRunner). What the host holds
// may also be streamed to a GPU and run there; pricing.h says when. Activations hop between devices
// over the quickest route. Rates are the machine's; nothing here is fitted. `flops` is for 16-bit;
// float32 models run at half of it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "berth/machine.h"
#include "berth/plan.h"
#include "planner/cost/chain.h"

namespace berth {

constexpr DiskRunner other_than(DiskRunner runner) {
  return runner == DiskRunner::kHost ? DiskRunner::kGpu : DiskRunner::kHost;
}

struct Seconds {
  double prefill = 0;
  double token = 0;
};

// A piece of a unit: the shares of its dense weights and of its experts, 0 to 1; attention and KV
// cache belong to the piece that attends.
struct Share {
  double dense = 1;
  double experts = 1;
  bool attends = true;

  bool operator==(const Share&) const = default;
};

// Which of a device's rates takes the time of a piece.
enum class Limit : std::uint8_t { kMemory, kFlops, kDisk, kLink };

class TimeModel {
 public:
  // `usable`: by device. What is excluded computes nothing. What the disk holds is computed by the
  // CPU or by the largest GPU, as `disk_runner` says where there is a choice.
  TimeModel(const Machine& machine, const Chain& chain, const Workload& workload,
            const std::vector<bool>& usable, DiskRunner disk_runner);

  // A piece that `device` (an index into Machine::devices) holds and computes; a disk's pieces run
  // on runs_on(device).
  Seconds piece(const Unit& unit, std::uint32_t device, const Share& share = {}) const;
  // The rate behind each of the two.
  std::pair<Limit, Limit> limits(const Unit& unit, std::uint32_t device, const Share& share) const;
  // Moving what the piece touches from the host to `gpu`: weights, and for a token the KV cache.
  Seconds transfer(const Unit& unit, std::uint32_t gpu, const Share& share) const;
  Seconds hop(std::uint32_t from, std::uint32_t to) const;
  double score(const Seconds& seconds) const {
    return seconds.prefill + new_tokens_ * seconds.token;
  }
  // Which device does the computing for what is placed on `device`.
  std::uint32_t runs_on(std::uint32_t device) const;
  std::uint32_t host() const { return host_; }  // kNone where no cpu may be used
  DiskRunner disk_runner() const { return disk_runner_; }
  std::uint32_t gpu_for_disk() const { return disk_gpu_; }  // kNone where no GPU may be used
  // GPUs that the host could stream to, the best link first; of equals the one with most memory
  // bandwidth.
  const std::vector<std::uint32_t>& streamers() const { return streamers_; }

 private:
  struct Work {
    Seconds weights;  // bytes touched
    double kv = 0;    // bytes of KV cache that a token reads
    Seconds flops;
  };
  Work work(const Unit& unit, const Share& share) const;

  const Machine& machine_;
  Workload workload_;
  double new_tokens_;
  double flop_scale_;
  std::uint32_t host_ = kNone;
  std::uint32_t disk_gpu_ = kNone;
  DiskRunner disk_runner_;
  std::vector<std::uint32_t> streamers_;
  std::vector<double> matvec_;     // by device: bytes of weights a second
  std::vector<double> from_host_;  // by device: bytes a second
  std::vector<double> prefill_hop_, token_hop_;
};

}  // namespace berth

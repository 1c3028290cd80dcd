// The time model: what a unit costs on a device, from the device's rates, and the whole estimate.
//
// A token (decode): max(bytes touched / memory bandwidth, FLOPs / throughput). Touched are all
// dense weights, 1 - (1 - k/E)^batch of the experts, one embedding row, and the KV cache of
// prompt + half the new tokens (or the window). FLOPs: 2 an active parameter and 4 an attended
// position and channel.
// The prompt (prefill): the same with prompt x the FLOPs and one pass over the bytes.
// Units in host RAM cost the cheaper of computing there and, where a GPU has slots for it,
// streaming the weights to that GPU: max(bytes / link, computing there) and the new KV cache back.
// Units on disk run on the host (a GPU where there is none) and read what they touch first.
// Activations hop between devices over the quickest route. Rates are the machine's; nothing here
// is fitted. `flops` is for 16-bit; float32 models run at half of it.
#pragma once

#include <vector>

#include "planner/machine/machine.h"
#include "planner/placement/chain.h"

namespace berth {

struct Seconds {
  double prefill = 0;
  double token = 0;
};

class TimeModel {
 public:
  TimeModel(const Machine& machine, const Chain& chain, const Workload& workload);

  // `device` indexes Machine::devices. `stream`: the GPU that streams what the host holds, or
  // kNone. `dense` and `experts`: the share of the unit's weights that is meant, 0 to 1; the KV
  // cache and attention belong to the share with `attends`.
  Seconds unit(const Unit& unit, std::uint32_t device, std::uint32_t stream, double dense = 1,
               double experts = 1, bool attends = true) const;
  Seconds hop(std::uint32_t from, std::uint32_t to) const;
  double score(const Seconds& seconds) const {
    return seconds.prefill + new_tokens_ * seconds.token;
  }
  // Which device does the computing for what is placed on `device`.
  std::uint32_t runs_on(std::uint32_t device) const;
  // The GPU that would stream for the host: the one with the best link, the first of equals.
  std::uint32_t best_streamer() const { return streamer_; }

 private:
  Seconds compute(const Unit& unit, std::uint32_t device, double dense, double experts,
                  bool attends) const;
  Seconds touched(const Unit& unit, double dense, double experts) const;  // bytes, not seconds
  double kv_read(const Unit& unit) const;

  const Machine& machine_;
  Workload workload_;
  double new_tokens_;
  double flop_scale_;
  std::uint32_t host_ = kNone;
  std::uint32_t first_gpu_ = kNone;
  std::uint32_t streamer_ = kNone;
  std::vector<double> prefill_hop_, token_hop_;
};

// The estimate of a whole placement, by tensor. Zero where the model's facts are unknown.
Estimate estimate_placement(const ModelTree& tree, const Chain& chain, const TimeModel& time,
                            const std::vector<std::uint32_t>& tensor_device, std::uint32_t stream);

}  // namespace berth

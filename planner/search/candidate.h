// A placement of units, as the search for `auto` sees it: what it takes of every device and what it
// costs. For the same plan the ledger (planner/cost/memory.h) and the price by tensor
// (planner/cost/pricing.h) come to the same figures.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/cost/pricing.h"

namespace berth {

// By unit, indices into Machine::devices: the device of the unit and that of its routed experts.
// They differ only if the experts stand aside. Tensors that overrides take from a unit are in
// neither.
struct Candidate {
  std::vector<std::uint32_t> home;
  std::vector<std::uint32_t> experts;
};

// What overrides leave of a unit for the search to place.
struct Freedom {
  // What overrides put on other devices, one entry a device. Bytes.
  struct Loose {
    std::uint32_t device = kNone;
    Share share;
    std::uint64_t weights = 0;
    std::uint64_t computed = 0;
  };
  std::uint32_t fixed = kNone;      // the unit's device, if overrides pin all of its tensors
  std::uint64_t core = 0;           // bytes of weights that always go where the unit goes
  std::uint64_t experts = 0;        // bytes of experts that may stand aside; 0: there are none
  std::uint64_t computed = 0;       // bytes of buffers that no checkpoint stores
  Share core_share, experts_share;  // the same as shares of the unit, for its time
  std::vector<Loose> loose;
};

// Says of candidates whether they fit and what they cost. Keeps a reference to `inputs`. Const
// methods may be called by several threads.
class Judge {
 public:
  explicit Judge(const PlanInputs& inputs);

  // The space that the inputs give the device, and what stretch() added.
  const Space& space(std::uint32_t device) const { return spaces_[device]; }
  // Gives the device `bytes` more than the inputs do, to find out how much is missing. Replaces
  // what an earlier call added.
  void stretch(std::uint32_t device, std::uint64_t bytes);

  const Freedom& freedom(std::uint32_t unit) const { return freedom_[unit]; }
  // Bytes that the loose tensors of all units take of a device.
  std::uint64_t loose(std::uint32_t device) const { return loose_[device]; }

  PlacedUnits placed(const Candidate& candidate) const;
  // The time of one unit by itself, with nothing streamed: of its pieces and the hops between them.
  Seconds seconds(std::uint32_t unit, std::uint32_t home, std::uint32_t experts) const;

  // Bytes by device.
  struct Usage {
    std::vector<std::uint64_t> weights;
    std::vector<std::uint64_t> total;       // weights, KV cache, workspace; no stream buffers
    std::vector<std::uint64_t> activation;  // the activations among it
    std::vector<std::uint64_t> buffer;      // one of the two buffers for the disk among it
  };
  // Of a unit whose home is kNone only what overrides took from it counts.
  Usage usage(const Candidate& candidate) const;
  // By how many bytes `device` is over its space or its budget.
  std::uint64_t over(const Usage& usage, std::uint32_t device) const;
  bool fits(const Candidate& candidate) const;
  // The price with the best streaming that there is space for; nothing if a device is over.
  std::optional<Pricing::Priced> price(const Candidate& candidate) const;

  // The placement by TensorId, overrides included.
  std::vector<std::uint32_t> tensor_device(const Candidate& candidate) const;

 private:
  void loosen(std::uint32_t unit);
  void add_tied(const Candidate& candidate, Usage& usage) const;

  const PlanInputs& inputs_;
  Pricing pricing_;
  std::vector<Space> spaces_;
  std::vector<Freedom> freedom_;
  std::vector<std::uint64_t> loose_;
};

}  // namespace berth

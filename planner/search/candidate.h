// A placement unit by unit, as `auto` searches it: what it takes of every device and what it costs.
// The ledger (memory.h) and the placed by tensor (pricing.h) say the same of the same plan.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/cost/pricing.h"

namespace berth {

// By unit, as indices into Machine::devices. `experts` differs from `home` only where the unit's
// experts are a piece of their own; overridden parts of units are in neither.
struct Candidate {
  std::vector<std::uint32_t> home;
  std::vector<std::uint32_t> experts;
};

// What overrides leave of a unit for the search to place.
struct Freedom {
  // Parts that overrides put elsewhere, one entry a device.
  struct Loose {
    std::uint32_t device = kNone;
    Share share;
    std::uint64_t weights = 0;
    std::uint64_t computed = 0;
  };
  std::uint32_t fixed = kNone;  // the device of the whole unit, where overrides name it
  std::uint64_t core = 0;       // bytes of weights that go where the unit goes, experts aside apart
  std::uint64_t experts = 0;    // bytes of experts that may stand aside; 0: there are none
  std::uint64_t computed = 0;   // buffers that no checkpoint stores
  Share core_share, experts_share;
  std::vector<Loose> loose;
};

class Judge {
 public:
  explicit Judge(const PlanInputs& inputs);

  // Space as the inputs says, and what stretch() added.
  const Space& space(std::uint32_t device) const { return spaces_[device]; }
  void stretch(std::uint32_t device, std::uint64_t bytes);

  const Freedom& freedom(std::uint32_t unit) const { return freedom_[unit]; }
  // Bytes that loose parts of all units take of a device.
  std::uint64_t loose(std::uint32_t device) const { return loose_[device]; }

  PlacedUnits placed(const Candidate& candidate) const;
  // One unit by itself, nothing streamed: its pieces and the hops between them.
  Seconds seconds(std::uint32_t unit, std::uint32_t home, std::uint32_t experts) const;

  struct Usage {
    std::vector<std::uint64_t> weights;     // by device
    std::vector<std::uint64_t> total;       // weights, KV cache, logits, workspace; no buffers
    std::vector<std::uint64_t> activation;  // of that, workspace of activations
  };
  Usage usage(const Candidate& candidate) const;
  // Bytes that `device` is over its space or its budget.
  std::uint64_t over(const Usage& usage, std::uint32_t device) const;
  bool fits(const Candidate& candidate) const;
  // The price with the best streaming there is space for; nothing where a device is over.
  std::optional<Pricing::Priced> price(const Candidate& candidate) const;

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

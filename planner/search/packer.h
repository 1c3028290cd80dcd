// Packs a chain into the devices of a tier in any order, where no contiguous run for each device
// fits. Makes the numbers for packing.h and turns its answer into a candidate whose layers stand in
// as few runs as they can (packing_order.h).
//
// What moves as one is an *item*: units that are joined, tied units that share a copy, or else one
// unit; if no packing of whole units fits, one piece of a unit (its experts, or the rest). With few
// kinds of layers the search is complete: where it finds nothing, no placement of whole pieces
// fits.
#pragma once

#include <cstdint>
#include <optional>

#include "planner/search/candidate.h"
#include "planner/search/tiers.h"

namespace berth {

// How much work a search may do, in steps of some 20 ns: to find a good packing; to find one that
// is better than contiguous runs; and only to know whether there is one. That is counted in steps
// and not in seconds, so that the same input always gives the same plan.
inline constexpr std::uint64_t kPackSteps = 200'000;
inline constexpr std::uint64_t kPackStepsToImprove = 5'000;
inline constexpr std::uint64_t kPackStepsToFit = 50'000;

struct PackedPlan {
  std::optional<Candidate> best;  // it fits
  bool complete = true;  // false: the search stopped at its limit; others may fit, or be better
};

// Looks for the packing with the least time: that of the score, or, if `bottleneck`, that of the
// slowest device.
PackedPlan pack_tier(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                     const Tier& tier, bool bottleneck);

// Looks for a packing that scores below `known` seconds, with kPackStepsToImprove.
PackedPlan pack_better(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                       const Tier& tier, double known);

// Looks for any packing, with kPackStepsToFit. What it finds, pack_tier() finds.
PackedPlan pack_any(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                    const Tier& tier);

}  // namespace berth

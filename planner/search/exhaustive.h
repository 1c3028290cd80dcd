// Searches all placements of a short chain, contiguous or not, by branch and bound. That finds what
// the contiguous pipeline misses, and proves a plan optimal if the search is complete.
#pragma once

#include <optional>

#include "planner/search/candidate.h"
#include "planner/search/tiers.h"

namespace berth {

struct Exhausted {
  std::optional<Candidate> best;  // better than what was known; empty if nothing better was found
  bool complete = false;          // every placement was looked at or ruled out
};

// Chains with more units than this that overrides leave free are not searched: it would take too
// long to find anything.
inline constexpr std::size_t kExhaustiveUnits = 12;

// The best placement on the tier's devices that scores below `known` seconds (kNever: the best that
// fits). Gives up after a fixed number of steps, not after a time, so that the same input always
// gives the same plan; 8 units on 3 devices take fewer.
Exhausted exhaust(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                  const Tier& tier, double known);

}  // namespace berth

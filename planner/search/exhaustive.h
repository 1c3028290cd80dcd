// Every placement of a short chain, contiguous or not, by branch and bound: what proves a plan
// optimal where the pipeline's contiguity might cost something.
#pragma once

#include <optional>

#include "planner/search/candidate.h"
#include "planner/search/tiers.h"

namespace berth {

struct Exhausted {
  std::optional<Candidate> best;  // better than what was known; nothing where nothing is
  bool complete = false;          // everything was looked at, or ruled out
};

// Chains of more free units than this are left alone: branching would find nothing in time.
inline constexpr std::size_t kExhaustiveUnits = 12;

// The best placement on the tier's devices that scores below `known` seconds (kNever: any that
// fits). Gives up after a fixed number of steps, far more than 8 units on 3 devices can take, so
// that the same input always gives the same plan.
Exhausted exhaust(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                  const Tier& tier, double known);

// The first placement found that fits, if any.
std::optional<Candidate> any_that_fits(const PlanInputs& inputs, const Judge& judge,
                                       const PipelineBuilder& builder, const Tier& tier);

}  // namespace berth

// Lower bounds on what any placement costs, which say how far from optimal a plan can be.
#pragma once

#include "planner/search/tiers.h"

namespace berth {

// A lower bound, in seconds, on the score of every placement on the tier's devices: contiguous or
// not, with experts aside or not, streamed or not. `known` and `score`: the best placement found,
// and its score; they steer the search for the bound.
//
// The bound is the least over the ways to stream (nothing, the prompt, tokens, both), each bounded
// by price_bound() (pipeline_bound.h). Copies and computing overlap at best perfectly, so that a
// walk takes at least the longer of the two, and therefore at least any mixture of them: for 0 <= m
// <= 1, the sum over units of m x copying + (1 - m) x computing. A few m are tried and the largest
// bound is taken.
double score_bound(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                   const Tier& tier, const Candidate& known, double score);

// A lower bound, in nanoseconds, on the time of the slowest device, for `throughput`; memory is
// left out of account. For any weights w of the devices that sum to one, the slowest device takes
// at least the weighted mean of all devices' times, hence at least the sum over units of their
// least w x time. w is taken in proportion to the devices' speeds.
double slowest_bound(const Pipeline& pipeline);

}  // namespace berth

// How far from optimal a plan of `auto` can be. Private to the sources of this folder.
#pragma once

#include "planner/search/tiers.h"

namespace berth {

// No placement on the tier's devices scores less, in seconds: contiguous or not, experts aside or
// not, streamed or not. The least over the ways of streaming (prompt, tokens), each bounded by
// pipeline.h's prices. Copies and computing overlap at best so that a walk takes the longer of
// the two, hence at least any mixture of them: unit by unit, m x copy + (1 - m) x computing, with
// the best of a few m. `known` and `score`: the best placement found.
double score_bound(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                   const Tier& tier, const Candidate& known, double score);

// The same for the slowest device of `throughput`, in nanoseconds: sharing the work in proportion
// to speed, memory aside. For any weights w that sum to one, the slowest device takes at least the
// sum over units of the least w x time.
double slowest_bound(const Pipeline& pipeline);

}  // namespace berth

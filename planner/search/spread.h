// Spreads layers that stream among layers that stand on the GPU, so that copies hide behind
// computing. In a run of streamed layers alone, a copy can hide only behind the computing of that
// run.
#pragma once

#include <vector>

#include "planner/search/candidate.h"

namespace berth {

// Variants of `candidate` with as many layers in host RAM as before (whole layers, or their
// experts), but at other positions: in groups of 1, 2, 4, ... layers, evenly between those that
// stay on the GPU. Whether they fit is not checked. Empty if nothing streams. Pure.
std::vector<Candidate> spread(const PlanInputs& inputs, const Judge& judge,
                              const Candidate& candidate, const Streaming& streaming);

}  // namespace berth

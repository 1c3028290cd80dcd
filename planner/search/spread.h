// Spreading what streams among what stands on the GPU, so that copies hide behind computing. A run
// of streamed layers can only hide behind itself.
#pragma once

#include <vector>

#include "planner/search/candidate.h"

namespace berth {

// Placements with the same number of layers away from the GPU (in host RAM whole, or their
// experts), otherwise spaced: in groups of 1, 2, 4, ... layers, evenly between those that stay.
// Whether they fit is not looked at. Empty where nothing streams.
std::vector<Candidate> spread(const PlanInputs& inputs, const Judge& judge,
                              const Candidate& candidate, const Streaming& streaming);

}  // namespace berth

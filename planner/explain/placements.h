// The list of a plan: which module stands where, in execution order, with bytes and reason.
// Private to the sources of this folder.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/explain/reasons.h"

namespace berth {

// Units placed whole; a unit that is cut is told by its parts. Storage that tensors share counts
// once a device. `by_device`: reasons of policies that give one for each device; `reasons`: those
// of `auto`, empty elsewhere.
std::vector<ModulePlacement> list_placements(const PlanInputs& inputs,
                                             const std::vector<std::uint32_t>& tensor_device,
                                             const std::map<std::uint32_t, std::string>& by_device,
                                             const Reasons& reasons);

}  // namespace berth

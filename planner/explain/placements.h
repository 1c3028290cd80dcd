// The list in a plan: which module stands on which device, in execution order, with its bytes and
// the reason.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/explain/reasons.h"

namespace berth {

// One entry for each unit that stands on one device as a whole; a unit that is on several devices
// has an entry for each module, as far down as needed. Storage that tensors share counts once on
// each device, with the first. An override is the reason of what it pins. Else `reasons` (by unit,
// of our own policies; empty for others) gives the reason, or `by_device` for policies with one
// reason a device. Pure.
std::vector<ModulePlacement> list_placements(const PlanInputs& inputs,
                                             const std::vector<std::uint32_t>& tensor_device,
                                             const std::map<std::uint32_t, std::string>& by_device,
                                             const Reasons& reasons);

}  // namespace berth

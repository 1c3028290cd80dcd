// Why each run of layers is where it is, in words. Private to the sources of this folder.
#pragma once

#include <string>
#include <vector>

#include "planner/cost/memory.h"
#include "planner/cost/pricing.h"

namespace berth {

// By unit of the chain, for a plan of `auto` or `throughput`: what made this device the one, and
// what one more layer would have taken. Units of one run share their words. `experts`: of a unit
// whose experts stand aside, why.
struct Reasons {
  std::vector<std::string> units;
  std::vector<std::string> experts;
};
Reasons auto_reasons(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device,
                     const Ledger& ledger, const Streaming& streaming);

}  // namespace berth

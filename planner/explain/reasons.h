// Says in words why each run of layers is where it is. For plans of `auto` and `throughput`.
#pragma once

#include <string>
#include <vector>

#include "planner/cost/memory.h"
#include "planner/cost/pricing.h"

namespace berth {

// One line of text for each unit of the chain. Neighbours on one device share their reason.
struct Reasons {
  std::vector<std::string> units;    // why this device, and what one more layer would have taken
  std::vector<std::string> experts;  // why the unit's experts stand aside; "" if they do not
};

// Pure. `streaming`: what the plan's estimate streams. `packed`: layers are in such an order
// because contiguous runs do not fit (AutoPlan::packed).
Reasons auto_reasons(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device,
                     const Ledger& ledger, const Streaming& streaming, bool packed);

}  // namespace berth

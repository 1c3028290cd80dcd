// Why each run of layers is where it is, in words. Private to the sources of this room.
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
Reasons auto_reasons(const Setting& setting, const std::vector<std::uint32_t>& tensor_device,
                     const Ledger& ledger, const Streaming& streaming);

// "1.20 GiB", "300 MiB": bytes as the reasons print them.
std::string gib(std::uint64_t bytes);

}  // namespace berth

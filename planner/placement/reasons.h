// Why each run of layers is where it is, in words. Private to the sources of this room.
#pragma once

#include <string>
#include <vector>

#include "planner/placement/auto.h"
#include "planner/placement/memory_model.h"

namespace berth {

// By unit of the chain, for a plan of `auto` or `throughput`: what made this device the one, and
// what one more layer would have taken. Units of one run share their words.
std::vector<std::string> auto_reasons(const Setting& setting, const AutoPlan& plan,
                                      const Ledger& ledger);

// "1.20 GiB", "300 MiB": bytes as the reasons print them.
std::string gib(std::uint64_t bytes);

}  // namespace berth

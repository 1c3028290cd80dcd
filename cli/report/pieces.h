// A plan's modules as people think of them. If the routed experts of a decoder block are on another
// device, the block is two pieces, however many modules the plan lists for it: experts and rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct PlacedPiece {
  ModuleId module = kNone;   // if a block is cut, the block
  const char* piece = "";    // which piece of a cut block it is: "experts" or "rest"
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t bytes = 0;
  std::string reason;
};

// In the plan's order. If a block is cut in another way, its modules stay as the plan lists them.
std::vector<PlacedPiece> plan_pieces(const ModelTree& tree, const Plan& plan);

}  // namespace berth

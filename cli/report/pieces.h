// A plan's modules as people think of them: a decoder block whose routed experts stand elsewhere is
// two pieces, its experts and the rest, however many modules the plan lists for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct PlacedPiece {
  ModuleId module = kNone;   // of a cut block, the block
  const char* piece = "";    // "experts" or "rest" of a cut block
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t bytes = 0;
  std::string reason;
};

// In the plan's order; blocks that are cut in other ways keep the modules that the plan lists.
std::vector<PlacedPiece> plan_pieces(const ModelTree& tree, const Plan& plan);

}  // namespace berth

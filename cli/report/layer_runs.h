// Runs of like modules, as people write them: "model.layers.0-38" for 39 placed alike.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct LayerRun {
  std::string name;          // "model.layers.0-38"
  std::string short_name;    // "layers.0-38": without what every module of the model starts with
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t count = 0;   // modules in the run
  std::uint64_t bytes = 0;   // of all of them
  std::uint64_t least = 0;   // bytes of the smallest and of the largest module
  std::uint64_t most = 0;
  std::string reason;
};

// The plan's modules, by device in plan order and within a device in execution order. Modules whose
// names differ in numbers only and which share a reason are one run; gaps are told by commas:
// "layers.0-1,3-4". A block that is cut, its routed experts apart, is told as "layers.3-60 experts"
// and "layers.3-60 rest".
std::vector<LayerRun> layer_runs(const ModelTree& tree, const Plan& plan);

}  // namespace berth

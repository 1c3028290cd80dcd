// Runs of similar modules, as people write them: "model.layers.0-38" for 39 layers on one device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct LayerRun {
  std::string name;          // "model.layers.0-38"
  std::string short_name;    // "layers.0-38": without the beginning that the names share
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t count = 0;   // modules in the run
  std::uint64_t bytes = 0;   // of all of them
  std::uint64_t least = 0;   // bytes of the smallest and of the largest module
  std::uint64_t most = 0;
  std::string reason;
};

// The plan's modules, sorted by device; those of a device are in the order of execution. Modules
// whose names differ only in a number and which have the same reason are one run. If the numbers do
// not follow each other, commas separate them: "layers.0-1,3-4". A block whose routed experts are
// on another device gives two runs: "layers.3-60 experts" and "layers.3-60 rest".
std::vector<LayerRun> layer_runs(const ModelTree& tree, const Plan& plan);

}  // namespace berth

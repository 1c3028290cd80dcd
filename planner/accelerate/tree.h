// A model as Accelerate sees it, and infer_auto_device_map on it. Only the sources of
// planner/accelerate include this.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"
#include "planner/model/tree/depth_first.h"

namespace berth::accelerate {

// Sizes are eighths of a byte, because Accelerate counts a bool as one bit.
using Eighths = std::int64_t;
inline constexpr Eighths kUnlimitedEighths = std::numeric_limits<Eighths>::max() / 4;

// Bytes in eighths; saturates at kUnlimitedEighths.
inline Eighths to_eighths(std::uint64_t bytes) {
  constexpr std::uint64_t kMost = static_cast<std::uint64_t>(kUnlimitedEighths) / 8;
  return static_cast<Eighths>(std::min(bytes, kMost) * 8);
}

// The tree as Accelerate sees it. A node is a module or a tensor: module m is node m, tensor t is
// node `modules` + t.
struct Sizes : DepthFirst {
  const ModelTree& tree;
  std::uint32_t modules;
  std::vector<Eighths> size;  // by node; of tied tensors the one that is met first counts
  std::vector<std::uint32_t> first_seen;    // by module: rank of its first counted tensor, or kNone
  std::vector<std::vector<TensorId>> ties;  // groups of tied parameters, members sorted by name

  explicit Sizes(const ModelTree& model_tree);

  bool is_module(std::uint32_t node) const { return node < modules; }
  Name name(std::uint32_t node) const {
    return is_module(node) ? tree.modules[node].name : tree.tensors[node - modules].name;
  }
  bool inside(ModuleId inner, ModuleId outer) const {
    return enter[inner] >= enter[outer] && enter[inner] < leave[outer];
  }
};

// The map that infer_auto_device_map makes, before it is cleaned.
struct Raw {
  // By node: the device (index into `devices`) if the node is a key of the map, else kNone.
  std::vector<std::uint32_t> assigned;
  std::vector<std::string> notes;
};

// infer_auto_device_map. `space`: how much each device takes; a device named "disk" takes
// everything.
Raw infer(const Sizes& sizes, const std::vector<Budget>& devices,
          const std::vector<Eighths>& space);

}  // namespace berth::accelerate

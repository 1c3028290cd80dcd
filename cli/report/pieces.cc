#include "cli/report/pieces.h"

#include <map>
#include <set>
#include <string_view>

namespace berth {
namespace {

// For each module, the decoder block that it is in, or kNone. Empty if no block is known.
std::vector<ModuleId> blocks_by_module(const ModelTree& tree) {
  std::vector<ModuleId> block_of;
  if (tree.facts.layers.empty()) return block_of;
  block_of.assign(tree.modules.size(), kNone);
  for (const LayerFacts& layer : tree.facts.layers) block_of[layer.module] = layer.module;
  for (ModuleId m = 1; m < tree.modules.size(); ++m) {  // parents come first
    if (block_of[m] == kNone) block_of[m] = block_of[tree.modules[m].parent];
  }
  return block_of;
}

// A block's routed experts: the outermost module that is marked so.
bool is_experts(const ModelTree& tree, ModuleId module) {
  const ModuleId parent = tree.modules[module].parent;
  return tree.modules[module].expert && (parent == kNone || !tree.modules[parent].expert);
}

// How a block is cut: whether the plan lists its experts apart, and which devices hold the rest.
struct Cut {
  bool experts = false;
  std::set<std::uint32_t> elsewhere;

  bool in_two() const { return experts && elsewhere.size() == 1; }
};

std::map<ModuleId, Cut> cuts_of(const ModelTree& tree, const Plan& plan,
                                const std::vector<ModuleId>& block_of) {
  std::map<ModuleId, Cut> cuts;
  if (block_of.empty()) return cuts;
  for (const ModulePlacement& placed : plan.placement) {
    const ModuleId block = block_of[placed.module];
    if (block == kNone || block == placed.module) continue;
    if (is_experts(tree, placed.module)) {
      cuts[block].experts = true;
    } else {
      cuts[block].elsewhere.insert(placed.device);
    }
  }
  return cuts;
}

}  // namespace

std::vector<PlacedPiece> plan_pieces(const ModelTree& tree, const Plan& plan) {
  const std::vector<ModuleId> block_of = blocks_by_module(tree);
  const std::map<ModuleId, Cut> cuts = cuts_of(tree, plan, block_of);
  std::vector<PlacedPiece> pieces;
  std::map<ModuleId, std::size_t> rest;  // by block: index into pieces
  for (const ModulePlacement& placed : plan.placement) {
    const auto cut = cuts.find(block_of.empty() ? kNone : block_of[placed.module]);
    if (cut == cuts.end() || !cut->second.in_two()) {
      pieces.push_back({placed.module, "", placed.device, placed.bytes, placed.reason});
    } else if (is_experts(tree, placed.module)) {
      pieces.push_back({cut->first, "experts", placed.device, placed.bytes, placed.reason});
    } else if (const auto [at, fresh] = rest.try_emplace(cut->first, pieces.size()); fresh) {
      pieces.push_back({cut->first, "rest", placed.device, placed.bytes, placed.reason});
    } else {
      pieces[at->second].bytes += placed.bytes;
    }
  }
  return pieces;
}

}  // namespace berth

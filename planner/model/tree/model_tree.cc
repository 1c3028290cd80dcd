#include <algorithm>

#include "berth/model.h"
#include "planner/model/tree/dequantization.h"

namespace berth {

std::uint64_t ModelTensor::elements() const {
  if (values != kAsShaped) return values;
  std::uint64_t product = 1;
  for (const std::uint64_t size : shape) product *= size;
  return product;
}

std::uint64_t ModelTree::parameters() const {
  std::uint64_t sum = 0;
  for (const ModelTensor& tensor : tensors) {
    if (!tensor.buffer && tensor.tied_to == kNone) sum += tensor.elements();
  }
  return sum;
}

std::uint64_t ModelTree::bytes() const {
  std::uint64_t sum = 0;
  for (const ModelTensor& tensor : tensors) {
    if (tensor.persistent && tensor.tied_to == kNone) sum += tensor.bytes();
  }
  return sum;
}

std::uint64_t ModelTree::stored_bytes(const ModelTensor& tensor) const {
  if (tensor.dequantization != kNone) return quantized->weights[tensor.dequantization].stored_bytes;
  return tensor_bytes(tensor.stored, tensor.shape).value_or(0);
}

// Walks down by name. A child's name is a prefix of `wanted` that ends at a dot.
std::size_t ModelTree::decoder_layers() const {
  return static_cast<std::size_t>(std::ranges::count(facts.layers, false, &LayerFacts::prediction));
}

const Module* ModelTree::find_module(std::string_view wanted) const {
  if (modules.empty()) return nullptr;
  const Module* at = &modules[0];
  while (at->name != wanted) {
    const auto next = std::ranges::find_if(at->children, [&](ModuleId id) {
      const Name child = modules[id].name;
      return wanted.starts_with(child) &&
             (wanted.size() == child.size() || wanted[child.size()] == '.');
    });
    if (next == at->children.end()) return nullptr;
    at = &modules[*next];
  }
  return at;
}

namespace {

bool holds_tensors(const ModelTree& tree, ModuleId id) {
  const Module& module = tree.modules[id];
  return !module.tensors.empty() || std::ranges::any_of(module.children, [&](ModuleId child) {
    return holds_tensors(tree, child);
  });
}

void gather_units(const ModelTree& tree, ModuleId id, std::vector<ModuleId>& units) {
  const Module& module = tree.modules[id];
  if (module.no_split || module.children.empty()) {
    if (holds_tensors(tree, id)) units.push_back(id);
    return;
  }
  if (!module.tensors.empty()) units.push_back(id);
  for (const ModuleId child : module.children) gather_units(tree, child, units);
}

}  // namespace

std::vector<ModuleId> execution_units(const ModelTree& tree) {
  std::vector<ModuleId> units;
  if (tree.modules.empty()) return units;
  gather_units(tree, 0, units);
  const auto is_block = [&](ModuleId id) { return tree.modules[id].no_split; };
  const auto first_block = std::ranges::find_if(units, is_block);
  if (first_block == units.end()) return units;
  const auto last_block = std::ranges::find_if(units.rbegin(), units.rend(), is_block).base();
  // Units run in the order of registration, except for what a template says runs on the other side
  // of the blocks.
  std::vector<ModuleId> before;
  std::vector<ModuleId> blocks;
  std::vector<ModuleId> after_early;
  std::vector<ModuleId> after;
  for (auto unit = units.begin(); unit != units.end(); ++unit) {
    const int stage = tree.modules[*unit].stage;
    if (stage < 0) {
      before.push_back(*unit);
    } else if (stage > 0) {
      after_early.push_back(*unit);
    } else if (unit < first_block) {
      before.push_back(*unit);
    } else if (unit < last_block) {
      blocks.push_back(*unit);
    } else {
      after.push_back(*unit);
    }
  }
  units = std::move(before);
  for (const auto& part : {blocks, after_early, after}) {
    units.insert(units.end(), part.begin(), part.end());
  }
  return units;
}

}  // namespace berth

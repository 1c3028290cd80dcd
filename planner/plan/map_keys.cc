#include "planner/plan/map_keys.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "planner/base/digits.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"
#include "planner/plan/device_map.h"

namespace berth {
namespace {

constexpr std::size_t kMostCandidates = 64;  // an end that more names share says nothing

// What transformers calls the base model in a model with a head (base_model_prefix): the root of a
// model that has no head.
constexpr std::string_view kBases[] = {"model",    "transformer", "bert",   "roberta",
                                       "gpt_neox", "backbone",    "encoder"};

bool is_base(std::string_view key) {
  return std::find(std::begin(kBases), std::end(kBases), key) != std::end(kBases);
}

std::string_view first_component(std::string_view name) { return name.substr(0, name.find('.')); }

std::string_view without_first(std::string_view name) {
  const std::size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view{} : name.substr(dot + 1);
}

std::vector<std::string_view> sorted_components(std::string_view name) {
  std::vector<std::string_view> out;
  for (; !name.empty(); name = without_first(name)) out.push_back(first_component(name));
  std::sort(out.begin(), out.end());
  return out;
}

// Finds names of a model by their ends. Made only for a map that has a key which is no name.
class Ends {
 public:
  explicit Ends(const ModelTree& tree) : in_decoder_(tree.modules.size(), false) {
    for (const LayerFacts& layer : tree.facts.layers) in_decoder_[layer.module] = true;
    for (ModuleId m = 1; m < tree.modules.size(); ++m) {  // parents come first
      if (in_decoder_[tree.modules[m].parent]) in_decoder_[m] = true;
      add(tree.modules[m].name, m);
    }
    for (const ModelTensor& tensor : tree.tensors) add(tensor.name, tensor.module);
    std::sort(ends_.begin(), ends_.end(),
              [](const End& a, const End& b) { return a.text < b.text; });
  }

  // The name that `key` means; empty where none or several could be meant.
  std::string_view find(std::string_view key) const {
    for (std::string_view end = key; !end.empty(); end = without_first(end)) {
      if (is_number(first_component(end))) continue;
      const auto [first, last] =
          std::equal_range(ends_.begin(), ends_.end(), End{end, {}, 0},
                           [](const End& a, const End& b) { return a.text < b.text; });
      if (first == last) continue;
      if (static_cast<std::size_t>(last - first) > kMostCandidates) return {};
      return choose(key, first, last);
    }
    return {};
  }

 private:
  struct End {
    std::string_view text;
    std::string_view name;
    ModuleId module;
  };
  using Iterator = std::vector<End>::const_iterator;

  void add(std::string_view name, ModuleId module) {
    for (std::string_view end = name; !end.empty(); end = without_first(end)) {
      if (!is_number(first_component(end))) ends_.push_back({end, name, module});
    }
  }

  std::string_view choose(std::string_view key, Iterator first, Iterator last) const {
    if (last - first == 1) return first->name;
    const auto same =
        std::find_if(first, last, [](const End& end) { return end.name == end.text; });
    if (same != last) return same->name;
    const std::vector<std::string_view> wanted = sorted_components(key);
    std::vector<const End*> whole;  // those that have all components of the key
    std::vector<const End*> decoder;
    for (Iterator at = first; at != last; ++at) {
      const std::vector<std::string_view> have = sorted_components(at->name);
      if (std::includes(have.begin(), have.end(), wanted.begin(), wanted.end())) {
        whole.push_back(&*at);
      }
      if (in_decoder_[at->module]) decoder.push_back(&*at);
    }
    if (whole.size() == 1) return whole[0]->name;
    return decoder.size() == 1 ? decoder[0]->name : std::string_view{};
  }

  std::vector<bool> in_decoder_;  // by module
  std::vector<End> ends_;         // sorted by text
};

std::unordered_set<std::string_view> all_names(const ModelTree& tree) {
  std::unordered_set<std::string_view> names;
  names.reserve(tree.modules.size() + tree.tensors.size());
  for (const Module& module : tree.modules) names.insert(module.name);
  for (const ModelTensor& tensor : tree.tensors) names.insert(tensor.name);
  return names;
}

}  // namespace

MapKeys settle_keys(const ModelTree& tree, const DeviceMap& given) {
  MapKeys keys;
  const std::unordered_set<std::string_view> names = all_names(tree);
  std::unordered_set<std::string_view> taken;
  for (const DeviceMapEntry& entry : given) taken.insert(entry.module);
  std::unique_ptr<const Ends> ends;
  for (const DeviceMapEntry& entry : given) {
    const std::string& key = entry.module;
    if (key.empty() || !is_literal_key(key) || names.count(key) > 0) {
      keys.map.push_back(entry);
      continue;
    }
    if (!ends) ends = std::make_unique<const Ends>(tree);
    const std::string_view meant = ends->find(key);
    // A key that stands in the map itself says more than one that only resembles it.
    if ((meant.empty() && !is_base(key)) || !taken.insert(meant).second) {
      keys.unknown.push_back(key);
      continue;
    }
    keys.map.push_back({std::string(meant), entry.device});
    keys.translated.push_back(quote(key) + " is taken as " +
                              (meant.empty() ? "the whole model" : quote(meant)));
  }
  return keys;
}

std::string nearest_module(const ModelTree& tree, const std::string& key) {
  std::vector<std::string> names;
  for (const Module& module : tree.modules) names.emplace_back(module.name);
  if (const auto found = nearest(key, names)) return *found;
  // A whole name may be too long for that; then the module that shares the longest beginning.
  std::string_view best;
  for (const Module& module : tree.modules) {
    const std::string_view name = module.name;
    const bool before =
        key.size() > name.size() && key.starts_with(name) && key[name.size()] == '.';
    if (before && name.size() > best.size()) best = name;
  }
  return std::string(best);
}

}  // namespace berth

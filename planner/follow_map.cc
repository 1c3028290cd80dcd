#include "planner/follow_map.h"

#include <algorithm>
#include <span>
#include <utility>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/plan/device_map.h"
#include "planner/plan/map_keys.h"

namespace berth {
namespace {

// The first four of the names, and how many more there are.
std::string listed(const std::vector<std::string>& names) {
  std::string out = join(std::span(names).first(std::min<std::size_t>(names.size(), 4)), ", ");
  if (names.size() > 4) out += ", and " + std::to_string(names.size() - 4) + " more";
  return out;
}

class Follower {
 public:
  explicit Follower(const PlanInputs& inputs)
      : inputs_(inputs),
        tree_(inputs.tree),
        keys_(settle_keys(tree_, *inputs.request.device_map)) {}

  FollowedMap run() {
    place_by_keys();
    place_tied();
    require_all();
    place_computed();
    complete_map();
    note_keys();
    if (keys_.map.size() > 0 && std::all_of(keys_.map.begin(), keys_.map.end(), [](const auto& e) {
          return is_literal_key(e.module);
        })) {
      out_.device_map = std::move(keys_.map);
    }
    return std::move(out_);
  }

 private:
  void place_by_keys() {
    std::vector<bool> whole_host;  // by entry
    for (DeviceMapEntry& entry : keys_.map) {
      whole_host.push_back(entry.device == "cpu");
      entry.device = normal_device_name(entry.device);
    }
    const DeviceMapIndex index(keys_.map);
    for (const ModelTensor& tensor : tree_.tensors) {
      const std::uint32_t entry = index.find(tensor.name);
      out_.tensor_device.push_back(entry == kNone ? kNone : device_of(keys_.map[entry]));
      out_.whole_host.push_back(entry != kNone && whole_host[entry]);
    }
  }

  std::uint32_t device_of(const DeviceMapEntry& entry) const {
    const std::uint32_t device = inputs_.device(entry.device);
    const std::string where = "device map: key " + quote(entry.module) + ": ";
    if (device == kNone) {
      const std::string other = other_accelerator(entry.device);
      throw Error(where + "there is no device " + quote(entry.device) + " on " +
                  inputs_.machine.source +
                  " (devices: " + join(inputs_.machine.devices, ", ", &Device::name) + ")" +
                  (other.empty() ? "" : "; " + other));
    }
    if (!inputs_.usable[device]) {
      throw Error(where + "device " + quote(entry.device) + " is excluded");
    }
    return device;
  }

  // transformers ties them again after it has placed them, so a key for one is enough.
  void place_tied() {
    std::vector<std::string> names;
    for (const std::vector<TensorId>& group : tree_.ties) {
      const auto placed = std::find_if(group.begin(), group.end(),
                                       [&](TensorId t) { return out_.tensor_device[t] != kNone; });
      if (placed == group.end()) continue;
      for (const TensorId t : group) {
        if (out_.tensor_device[t] != kNone) continue;
        put(t, out_.tensor_device[*placed]);
        out_.whole_host[t] = out_.whole_host[*placed];
        names.emplace_back(tree_.tensors[t].name);
      }
    }
    if (names.empty()) return;
    out_.notes.push_back("device map: no key covers " + listed(names) +
                         (names.size() == 1 ? ", which is" : ", which are") +
                         " tied to what one does cover, and " +
                         (names.size() == 1 ? "goes" : "go") + " with it");
  }

  void require_all() const {
    std::vector<std::string> uncovered;
    std::size_t open = 0;
    for (TensorId t = 0; t < tree_.tensors.size(); ++t) {
      if (out_.tensor_device[t] != kNone) continue;
      ++open;
      if (tree_.tensors[t].persistent) uncovered.emplace_back(tree_.tensors[t].name);
    }
    const std::string odd = first_odd_key();
    if (open == tree_.tensors.size()) {
      throw Error("device map: no key names a module of " + tree_.name +
                  " (is it the map of another model?): first key " +
                  (odd.empty() ? quote(first_key()) : odd));
    }
    if (uncovered.empty()) return;
    throw Error("device map: no key covers " + listed(uncovered) +
                (odd.empty() ? "" : "; a key that names nothing is " + odd) +
                " (the key \"\" covers everything)");
  }

  std::string first_key() const {
    const DeviceMap& map = *inputs_.request.device_map;
    return map.empty() ? "" : map.front().module;
  }

  // The first key that names nothing, and what is near; "" where all keys name something.
  std::string first_odd_key() const {
    if (keys_.unknown.empty()) return "";
    const std::string& key = keys_.unknown.front();
    const std::string near = nearest_module(tree_, key);
    return quote(key) + (near.empty() ? "" : " (near it is " + quote(near) + ")");
  }

  // Buffers that no key covers are made on the device of the first tensor that has one.
  void place_computed() {
    const auto first = std::find_if(out_.tensor_device.begin(), out_.tensor_device.end(),
                                    [](std::uint32_t d) { return d != kNone; });
    std::vector<std::string> names;
    for (TensorId t = 0; t < tree_.tensors.size(); ++t) {
      if (out_.tensor_device[t] != kNone) continue;
      names.emplace_back(tree_.tensors[t].name);
      put(t, *first);
    }
    if (names.empty()) return;
    out_.notes.push_back("device map: no key covers " + listed(names) +
                         ", which no checkpoint stores: made on " + inputs_.label(*first));
  }

  void put(TensorId t, std::uint32_t device) {
    out_.tensor_device[t] = device;
    filled_.push_back(t);
  }

  // The map of a plan covers every tensor, so it gets keys for those that were put: the name of
  // their module where the module holds no others, else their own.
  void complete_map() {
    std::vector<std::uint32_t> filled(tree_.modules.size(), 0);  // by module
    for (const TensorId t : filled_) ++filled[tree_.tensors[t].module];
    for (const TensorId t : filled_) {
      const ModuleId m = tree_.tensors[t].module;
      const Module& module = tree_.modules[m];
      const bool whole = m != 0 && module.children.empty() && filled[m] == module.tensors.size();
      if (whole && t != module.tensors.front()) continue;
      keys_.map.push_back({std::string(whole ? module.name : tree_.tensors[t].name),
                           inputs_.machine.devices[out_.tensor_device[t]].name});
    }
  }

  void note_keys() {
    for (const std::string& words : keys_.translated) {
      out_.notes.push_back("device map: key " + words);
      if (out_.notes.size() >= kMostNotes) break;
    }
    if (keys_.translated.size() > kMostNotes) {
      out_.notes.push_back("device map: " + std::to_string(keys_.translated.size()) +
                           " keys in all are taken so");
    }
    if (keys_.unknown.empty()) return;
    std::vector<std::string> quoted;
    for (const std::string& key : keys_.unknown) quoted.push_back(quote(key));
    if (quoted.size() == 1) quoted[0] = first_odd_key();
    out_.notes.push_back("device map: key " + listed(quoted) +
                         (quoted.size() == 1 ? " names" : " name") +
                         " no module of this model; ignored");
  }

  static constexpr std::size_t kMostNotes = 4;

  const PlanInputs& inputs_;
  const ModelTree& tree_;
  MapKeys keys_;
  std::vector<TensorId> filled_;  // that no key covers
  FollowedMap out_;
};

}  // namespace

FollowedMap follow_map(const PlanInputs& inputs) { return Follower(inputs).run(); }

}  // namespace berth

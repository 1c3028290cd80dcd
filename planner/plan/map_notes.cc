#include "planner/plan/map_notes.h"

#include <algorithm>
#include <set>

#include "planner/base/join.h"

namespace berth {
namespace {

class Notes {
 public:
  Notes(const ModelTree& tree, const Plan& plan)
      : tree_(tree), plan_(plan), on_(tree.modules.size()) {
    for (TensorId t = 0; t < tree.tensors.size(); ++t) {
      const std::uint32_t device =
          t < plan.tensor_device.size() ? plan.tensor_device[t] : std::uint32_t{kNone};
      if (device == kNone || !tree.tensors[t].persistent) continue;
      if (is_gpu(device)) first_gpu_ = std::min(first_gpu_, device);
      const ModuleId whole = whole_of(tree.tensors[t].module);
      if (whole != kNone) on_[whole].insert(device);
      const ModuleId experts = experts_of(tree.tensors[t].module);
      if (experts != kNone) on_[experts].insert(device);
    }
  }

  std::vector<std::string> list() const {
    std::vector<std::string> notes;
    if (tree_.from_names) {
      notes.push_back(
          "device map: its keys are the checkpoint's own names; no template says how transformers "
          "calls the modules of " +
          (tree_.model_type.empty() ? "this model" : "a " + tree_.model_type + " model") +
          ", so compare them with model.named_modules()");
    }
    add(
        notes, [&](ModuleId m) { return is_whole(m) && fails_in_accelerate(on_[m]); },
        "device map: Accelerate takes it, but in transformers a forward pass fails where parts of "
        "a layer are computed on two devices: ");
    add(
        notes, [&](ModuleId m) { return is_fused(m) && on_[m].size() > 1; },
        "device map: transformers 5 keeps the experts of a layer in one module, which cannot be "
        "divided: ");
    return notes;
  }

 private:
  template <typename Predicate>
  void add(std::vector<std::string>& notes, const Predicate& holds, std::string words) const {
    std::size_t count = 0;
    std::string first;
    for (ModuleId m = 0; m < tree_.modules.size(); ++m) {
      if (on_[m].empty() || !holds(m)) continue;
      if (count++ == 0) first = std::string(tree_.modules[m].name) + " (" + devices(on_[m]) + ")";
    }
    if (count == 0) return;
    words += first;
    if (count > 1) words += ", and " + std::to_string(count - 1) + " more";
    notes.push_back(std::move(words));
  }

  bool is_gpu(std::uint32_t device) const { return berth::is_gpu(plan_.devices[device].kind); }

  std::string devices(const std::set<std::uint32_t>& on) const {
    std::vector<std::string> words;
    for (const std::uint32_t device : on) {
      const std::string& name = plan_.devices[device].name;
      words.push_back(is_gpu(device) ? "gpu " + name
                      : first_gpu_ == kNone
                          ? name
                          : name + ", computed on gpu " + plan_.devices[first_gpu_].name);
    }
    return join(words, "; ");
  }

  bool fails_in_accelerate(const std::set<std::uint32_t>& on) const {
    std::set<std::uint32_t> computed;
    for (const std::uint32_t device : on) computed.insert(is_gpu(device) ? device : first_gpu_);
    return computed.size() > 1;
  }

  bool is_whole(ModuleId m) const { return whole_of(m) == m; }
  bool is_fused(ModuleId m) const { return experts_of(m) == m; }

  // The outermost module around `m` that must not be split; kNone where there is none.
  ModuleId whole_of(ModuleId m) const {
    ModuleId found = kNone;
    for (; m != kNone; m = tree_.modules[m].parent) {
      if (tree_.modules[m].no_split) found = m;
    }
    return found;
  }

  // The module that holds all experts of a layer, if transformers has no modules in it.
  ModuleId experts_of(ModuleId m) const {
    ModuleId found = kNone;
    for (; m != kNone; m = tree_.modules[m].parent) {
      if (tree_.modules[m].expert) found = m;
    }
    if (found == kNone || tree_.from_names || tree_.modules[found].cls == "ModuleList")
      return kNone;
    return found;
  }

  const ModelTree& tree_;
  const Plan& plan_;
  std::vector<std::set<std::uint32_t>> on_;  // by module, of those that is_whole() or is_fused()
  std::uint32_t first_gpu_ = kNone;          // of those that hold weights
};

}  // namespace

std::vector<std::string> device_map_notes(const ModelTree& tree, const Plan& plan) {
  return Notes(tree, plan).list();
}

}  // namespace berth

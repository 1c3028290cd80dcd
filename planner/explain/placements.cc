#include "planner/explain/placements.h"

#include <algorithm>
#include <span>
#include <utility>

#include "planner/base/quote.h"
namespace berth {
namespace {

class Placements {
 public:
  Placements(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device,
             const std::map<std::uint32_t, std::string>& by_device, const Reasons& reasons)
      : inputs_(inputs),
        tensor_device_(tensor_device),
        by_device_(by_device),
        reasons_(reasons),
        shared_(inputs.tree) {}

  std::vector<ModulePlacement> list() {
    for (std::uint32_t u = 0; u < inputs_.chain.units.size(); ++u) {
      unit_ = u;
      const Unit& unit = inputs_.chain.units[u];
      const Module& module = inputs_.tree.modules[unit.module];
      const bool own_only = !module.no_split && !module.children.empty();
      if (together(unit.tensors)) {
        add(unit.module, unit.tensors);
      } else if (own_only) {
        split_own(unit.module);
      } else {
        if (below_.empty()) count_below();
        cut(unit.module, unit.tensors);
      }
    }
    return std::move(out_);
  }

 private:
  bool together(std::span<const TensorId> tensors) const {
    return std::all_of(tensors.begin(), tensors.end(),
                       [&](TensorId t) { return tensor_device_[t] == tensor_device_[tensors[0]]; });
  }

  // Counts the tensors in each module and all below it.
  void count_below() {
    const std::vector<Module>& modules = inputs_.tree.modules;
    below_.assign(modules.size(), 0);
    for (auto m = static_cast<ModuleId>(modules.size()); m-- > 0;) {  // parents come first
      below_[m] += static_cast<std::uint32_t>(modules[m].tensors.size());
      if (modules[m].parent != kNone) below_[modules[m].parent] += below_[m];
    }
  }

  void add(ModuleId module, std::span<const TensorId> tensors) {
    if (tensors.empty() || tensor_device_[tensors[0]] == kNone) return;
    ModulePlacement placed;
    placed.module = module;
    placed.device = tensor_device_[tensors[0]];
    for (const TensorId t : tensors) {
      if (!inputs_.tree.tensors[t].persistent) continue;  // computed: no load brings its bytes
      if (shared_.first(placed.device, t)) placed.bytes += inputs_.chain.bytes[t];
    }
    placed.reason = reason(placed.device, tensors);
    out_.push_back(std::move(placed));
  }

  std::string reason(std::uint32_t device, std::span<const TensorId> tensors) const {
    if (!inputs_.request.overrides.empty()) {
      for (const TensorId t : tensors) {
        if (inputs_.pinned_by[t] == kNone) continue;
        return "override " + quote(inputs_.request.overrides[inputs_.pinned_by[t]].match);
      }
    }
    if (unit_ < reasons_.units.size()) {
      const std::string& aside = reasons_.experts[unit_];
      const bool home = device == tensor_device_[inputs_.chain.units[unit_].anchor];
      return home || aside.empty() ? reasons_.units[unit_] : aside;
    }
    const auto words = by_device_.find(device);
    return words == by_device_.end() ? std::string{} : words->second;
  }

  // Adds the module's own tensors, with an entry for each device that holds some.
  void split_own(ModuleId module) {
    std::map<std::uint32_t, std::vector<TensorId>> on_device;
    for (const TensorId t : inputs_.tree.modules[module].tensors) {
      on_device[tensor_device_[t]].push_back(t);
    }
    for (const auto& [device, tensors] : on_device) add(module, tensors);
  }

  // Adds what stands in and below the module, with one entry for each subtree that is on
  // one device. `tensors`: those of the module, its own first, then those of its children in order.
  void cut(ModuleId module, std::span<const TensorId> tensors) {
    if (together(tensors)) return add(module, tensors);
    split_own(module);
    const Module& at = inputs_.tree.modules[module];
    std::size_t begin = at.tensors.size();
    for (const ModuleId child : at.children) {
      cut(child, tensors.subspan(begin, below_[child]));
      begin += below_[child];
    }
  }

  const PlanInputs& inputs_;
  const std::vector<std::uint32_t>& tensor_device_;
  const std::map<std::uint32_t, std::string>& by_device_;
  const Reasons& reasons_;
  SharedStorage shared_;
  std::uint32_t unit_ = 0;
  std::vector<std::uint32_t> below_;  // by module; empty until a unit is cut
  std::vector<ModulePlacement> out_;
};

}  // namespace

std::vector<ModulePlacement> list_placements(const PlanInputs& inputs,
                                             const std::vector<std::uint32_t>& tensor_device,
                                             const std::map<std::uint32_t, std::string>& by_device,
                                             const Reasons& reasons) {
  return Placements(inputs, tensor_device, by_device, reasons).list();
}

}  // namespace berth

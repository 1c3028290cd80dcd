#include "planner/accelerate/accelerate.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <unordered_map>

#include "planner/accelerate/tree.h"
#include "planner/plan/budget.h"

namespace berth {
namespace {

using namespace accelerate;

// The bytes that get_balanced_memory gives each GPU beyond its equal share: 1.25 times the largest
// no-split module (of each class the first one counts) or the mean leaf module, whichever is
// larger.
std::int64_t balance_margin(const Sizes& sizes) {
  const ModelTree& tree = sizes.tree;
  std::unordered_map<std::string_view, ModuleId> first;  // by no-split class
  std::vector<bool> has_counted_child(sizes.modules, false);
  for (ModuleId m : sizes.order) {
    if (m == 0 || sizes.first_seen[m] == kNone) continue;
    has_counted_child[tree.modules[m].parent] = true;
    if (!tree.modules[m].no_split) continue;
    auto [entry, fresh] = first.emplace(tree.modules[m].cls, m);
    if (!fresh && sizes.first_seen[m] < sizes.first_seen[entry->second]) entry->second = m;
  }
  Eighths block = 0;
  for (const auto& [cls, m] : first) block = std::max(block, sizes.size[m]);
  Eighths leaf_sum = 0;
  std::int64_t leaves = 0;
  for (ModuleId m : sizes.order) {
    const ModuleId parent = tree.modules[m].parent;
    // transformers 5 keeps all experts of a layer in one module without children.
    const bool experts = tree.modules[m].expert;
    if (m != 0 && tree.modules[parent].expert) continue;
    if (m == 0 || sizes.first_seen[m] == kNone || (has_counted_child[m] && !experts)) continue;
    leaf_sum += sizes.size[m];
    ++leaves;
  }
  const double sum = static_cast<double>(leaf_sum) / 8;
  const double mean = sum / static_cast<double>(std::max<std::int64_t>(leaves, 1));
  const auto mean_bytes = static_cast<double>(static_cast<std::int64_t>(mean));
  return static_cast<std::int64_t>(1.25 * std::max(static_cast<double>(block) / 8, mean_bytes));
}

// Applies get_balanced_memory to `budgets`. Returns how many eighths of a byte GPU 0 gets beyond
// its budget in whole bytes: what balanced_low_0 leaves for GPU 0 is not rounded in Accelerate.
Eighths balance(const Sizes& sizes, std::vector<Budget>& budgets, bool low_zero, bool probed,
                std::vector<std::string>& notes) {
  std::vector<Budget*> gpus;  // those with memory, by number
  for (Budget& budget : budgets) {
    if (names_gpu(budget.device) && budget.bytes > 0) gpus.push_back(&budget);
  }
  if (gpus.empty()) return 0;
  if (gpus.size() == 1) {
    low_zero = false;
    if (probed) gpus[0]->bytes = gpus[0]->bytes / 10 * 9 + gpus[0]->bytes % 10 * 9 / 10;
  }
  auto budget_of = [&](std::uint32_t number) -> Budget* {
    for (Budget& budget : budgets) {
      if (names_gpu(budget.device) && gpu_number(budget.device) == number) return &budget;
    }
    notes.push_back("Accelerate fails here: balanced_low_0 asks for the budget of GPU " +
                    std::to_string(number) + ", which has none; it was counted as 0 bytes");
    return nullptr;
  };

  const auto total = static_cast<std::uint64_t>(sizes.size[0] / 8);
  const std::uint64_t per_gpu = total / (gpus.size() - (low_zero ? 1 : 0)) +
                                static_cast<std::uint64_t>(balance_margin(sizes));
  for (std::size_t i = 0; i + 1 < gpus.size(); ++i) {  // the last one keeps all it has
    if (low_zero && gpu_number(gpus[i]->device) == 0) continue;
    gpus[i]->bytes = std::min(gpus[i]->bytes, per_gpu);
  }
  if (low_zero) {
    std::uint64_t others = 0;
    for (std::uint32_t i = 1; i < gpus.size(); ++i) {  // by number, not by position
      if (const Budget* budget = budget_of(i)) {
        others += std::min(budget->bytes, std::numeric_limits<std::uint64_t>::max() - others);
      }
    }
    const std::uint64_t left = total > others ? total - others : 0;
    if (Budget* zero = budget_of(0); zero != nullptr && left < zero->bytes) {
      zero->bytes = left;
      return total >= others ? sizes.size[0] % 8 : 0;
    }
  }
  return 0;
}

// clean_device_map: if all keys in a module (two or more) share a device, the module becomes one
// key.
class Cleaner {
 public:
  Cleaner(const Sizes& sizes, const std::vector<Budget>& budgets,
          const std::vector<std::uint32_t>& assigned);
  AccelerateResult finish(std::vector<std::string> notes);

 private:
  static constexpr std::uint32_t kMixed = kNone - 1;
  void emit(std::uint32_t node, std::uint32_t device);
  void walk(ModuleId module);
  std::uint32_t first_device_in(ModuleId module) const;

  const Sizes& sizes_;
  const std::vector<Budget>& budgets_;
  const std::vector<std::uint32_t>& assigned_;
  std::vector<std::uint32_t> keys_;    // by module: how many keys are below it
  std::vector<std::uint32_t> device_;  // by module: the device that these share, or kMixed
  AccelerateResult result_;
};

Cleaner::Cleaner(const Sizes& sizes, const std::vector<Budget>& budgets,
                 const std::vector<std::uint32_t>& assigned)
    : sizes_(sizes),
      budgets_(budgets),
      assigned_(assigned),
      keys_(sizes.modules, 0),
      device_(sizes.modules, kNone) {
  auto add = [&](ModuleId to, std::uint32_t keys, std::uint32_t device) {
    keys_[to] += keys;
    if (keys > 0) device_[to] = device_[to] == kNone || device_[to] == device ? device : kMixed;
  };
  for (TensorId t = 0; t < sizes.tree.tensors.size(); ++t) {
    const std::uint32_t device = assigned[sizes.modules + t];
    if (device != kNone) add(sizes.tree.tensors[t].module, 1, device);
  }
  for (auto at = sizes.order.rbegin(); at != sizes.order.rend(); ++at) {
    const ModuleId parent = sizes.tree.modules[*at].parent;
    if (parent == kNone) continue;
    if (assigned[*at] != kNone) {
      add(parent, 1, assigned[*at]);
    } else {
      add(parent, keys_[*at], device_[*at]);
    }
  }
}

void Cleaner::emit(std::uint32_t node, std::uint32_t device) {
  result_.device_map.push_back({std::string(sizes_.name(node)), budgets_[device].device});
  if (!sizes_.is_module(node)) {
    result_.tensor_device[node - sizes_.modules] = device;
    return;
  }
  for (const TensorId t : tensors_below(sizes_.tree, sizes_, node)) {
    result_.tensor_device[t] = device;
  }
}

void Cleaner::walk(ModuleId module) {
  if (assigned_[module] != kNone) return emit(module, assigned_[module]);
  if (keys_[module] > 1 && device_[module] != kMixed) return emit(module, device_[module]);
  for (TensorId t : sizes_.tree.modules[module].tensors) {
    if (assigned_[sizes_.modules + t] != kNone) {
      emit(sizes_.modules + t, assigned_[sizes_.modules + t]);
    }
  }
  for (ModuleId child : sizes_.tree.modules[module].children) walk(child);
}

std::uint32_t Cleaner::first_device_in(ModuleId module) const {
  for (const TensorId t : tensors_below(sizes_.tree, sizes_, module)) {
    if (result_.tensor_device[t] != kNone) return result_.tensor_device[t];
  }
  return 0;
}

AccelerateResult Cleaner::finish(std::vector<std::string> notes) {
  const ModelTree& tree = sizes_.tree;
  result_.budgets = budgets_;
  result_.notes = std::move(notes);
  result_.tensor_device.assign(tree.tensors.size(), kNone);
  walk(0);
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    if (result_.tensor_device[t] != kNone) continue;
    // Accelerate forgets the buffers of a module that it splits. They go to the device of the
    // module's first placed tensor.
    const std::uint32_t device = first_device_in(tree.tensors[t].module);
    emit(sizes_.modules + t, device);
    result_.notes.push_back("Accelerate gives no device for the buffer " +
                            std::string(tree.tensors[t].name) + "; it goes to " +
                            budgets_[device].device + " with its module");
  }
  return std::move(result_);
}

}  // namespace

std::vector<Budget> balanced_memory(const ModelTree& tree, std::vector<Budget> budgets,
                                    bool low_zero, bool probed, std::vector<std::string>& notes) {
  balance(Sizes(tree), budgets, low_zero, probed, notes);
  return budgets;
}

AccelerateResult accelerate_place(const ModelTree& tree, Policy policy,
                                  const std::vector<Budget>& budgets, bool probed) {
  std::vector<Budget> ordered = accelerate_order(budgets);
  std::vector<std::string> notes;
  const Sizes sizes(tree);
  Eighths more = 0;
  if (policy != Policy::kSequential) {
    more = balance(sizes, ordered, policy == Policy::kBalancedLow0, probed, notes);
  }
  std::vector<Eighths> space;
  for (const Budget& budget : ordered) space.push_back(to_eighths(budget.bytes));
  if (more > 0) space[0] += more;  // GPU 0 is the first
  Raw raw = infer(sizes, ordered, space);
  notes.insert(notes.end(), raw.notes.begin(), raw.notes.end());
  return Cleaner(sizes, ordered, raw.assigned).finish(std::move(notes));
}

}  // namespace berth

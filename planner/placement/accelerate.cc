// Accelerate keeps a list of (name, module) pairs and string prefixes; here the list is an
// intrusive linked list over ids, "is inside" is a range test on depth-first positions, and the
// largest layer still waiting is found in an order sorted once by size.
#include "planner/placement/accelerate.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <unordered_map>

namespace berth {
namespace {

// Sizes are eighths of a byte, because Accelerate counts a bool as one bit.
using Eighths = std::int64_t;
constexpr Eighths kUnlimited = std::numeric_limits<Eighths>::max() / 4;

Eighths to_eighths(std::uint64_t bytes) {
  constexpr std::uint64_t kMost = static_cast<std::uint64_t>(kUnlimited) / 8;
  return static_cast<Eighths>(std::min(bytes, kMost) * 8);
}

// The float dtype that holds most bytes of the parameters.
DType main_float(const ModelTree& tree) {
  std::map<DType, std::uint64_t> bytes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.buffer && is_convertible(tensor.dtype)) bytes[tensor.dtype] += tensor.bytes();
  }
  DType main = DType::kF32;
  std::uint64_t most = 0;
  for (const auto& [dtype, sum] : bytes) {
    if (sum > most) {
      most = sum;
      main = dtype;
    }
  }
  return main;
}

// Buffers that are computed at load (rotary frequencies) count in the dtype of the weights:
// Accelerate measures a model that was cast as a whole.
std::uint64_t counted_bytes(const ModelTensor& tensor, DType floats) {
  if (tensor.persistent || !is_convertible(tensor.dtype)) return tensor.bytes();
  return tensor_bytes(floats, tensor.shape).value_or(tensor.bytes());
}

// The tree as Accelerate sees it. A node is a module or a tensor; tensor t is node modules + t.
struct Sizes {
  const ModelTree& tree;
  std::uint32_t modules;
  std::vector<ModuleId> order;       // modules depth first, in registration order
  std::vector<std::uint32_t> enter;  // by module: position in `order`
  std::vector<std::uint32_t> leave;  // by module: one past its last descendant in `order`
  std::vector<Eighths> size;         // by node; a tied tensor counts where its group is met first
  std::vector<std::uint32_t> first_seen;    // by module: rank of its first counted tensor, or kNone
  std::vector<std::vector<TensorId>> ties;  // groups of parameters, members sorted by name

  explicit Sizes(const ModelTree& model_tree);

  bool is_module(std::uint32_t node) const { return node < modules; }
  const std::string& name(std::uint32_t node) const {
    return is_module(node) ? tree.modules[node].name : tree.tensors[node - modules].name;
  }
  bool inside(ModuleId inner, ModuleId outer) const {
    return enter[inner] >= enter[outer] && enter[inner] < leave[outer];
  }
};

Sizes::Sizes(const ModelTree& model_tree)
    : tree(model_tree),
      modules(static_cast<std::uint32_t>(model_tree.modules.size())),
      enter(modules, 0),
      leave(modules, 0),
      size(modules + model_tree.tensors.size(), 0),
      first_seen(modules, kNone) {
  std::vector<std::pair<ModuleId, std::size_t>> stack{{0, 0}};
  order.push_back(0);
  while (!stack.empty()) {
    auto& [module, next] = stack.back();
    const auto& children = tree.modules[module].children;
    if (next == children.size()) {
      leave[module] = static_cast<std::uint32_t>(order.size());
      stack.pop_back();
      continue;
    }
    const ModuleId child = children[next++];
    enter[child] = static_cast<std::uint32_t>(order.size());
    order.push_back(child);
    stack.emplace_back(child, 0);
  }

  std::vector<std::uint32_t> group(tree.tensors.size(), kNone);
  for (const auto& members : tree.ties) {
    std::vector<TensorId> parameters;
    for (TensorId t : members) {
      if (!tree.tensors[t].buffer) parameters.push_back(t);
    }
    if (parameters.size() < 2) continue;
    for (TensorId t : parameters) group[t] = static_cast<std::uint32_t>(ties.size());
    std::sort(parameters.begin(), parameters.end(),
              [&](TensorId a, TensorId b) { return tree.tensors[a].name < tree.tensors[b].name; });
    ties.push_back(std::move(parameters));
  }

  const DType floats = main_float(tree);
  std::vector<bool> counted(ties.size(), false);
  std::uint32_t rank = 0;
  for (const bool buffers : {false, true}) {
    for (ModuleId module : order) {
      for (TensorId t : tree.modules[module].tensors) {
        const ModelTensor& tensor = tree.tensors[t];
        if (tensor.buffer != buffers) continue;
        if (group[t] != kNone) {
          if (counted[group[t]]) continue;
          counted[group[t]] = true;
        }
        const Eighths bytes = to_eighths(counted_bytes(tensor, floats));
        size[modules + t] = tensor.dtype == DType::kBool ? bytes / 8 : bytes;
        for (ModuleId m = module; m != kNone; m = tree.modules[m].parent) {
          size[m] += size[modules + t];
          if (first_seen[m] == kNone) first_seen[m] = rank;
        }
        ++rank;
      }
    }
  }
}

bool is_gpu(const std::string& device) { return device != "cpu" && device != "disk"; }

std::uint32_t gpu_number(const std::string& device) {
  std::uint32_t number = 0;
  const auto [end, code] = std::from_chars(device.data(), device.data() + device.size(), number);
  if (code != std::errc() || end != device.data() + device.size()) {
    throw Error("max_memory: '" + device +
                "' is not a device (GPUs are numbers; then there are cpu and disk)");
  }
  return number;
}

// 1.25 times the larger of: the first module of each no-split class, the mean leaf module.
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

// The layers that room is held back for: leaf modules and no-split modules, each a range of the
// depth-first order. Answers "the largest layer that still waits".
class WaitingLayers {
 public:
  explicit WaitingLayers(const Sizes& sizes);

  Eighths size() const { return size_; }

  // `node` left the queue. Forgets it and what is in it, and looks for the next largest when the
  // known largest ones are all gone.
  void take(std::uint32_t node);
  void put_back(std::uint32_t node) { mark(node, true); }
  void drop(std::uint32_t node) { mark(node, false); }  // leaves, but is not forgotten at once
  void recompute();

 private:
  struct Layer {
    std::uint32_t node;
    Eighths size;
  };
  // [first, last) of by_position_ for the layers inside `node`.
  std::pair<std::size_t, std::size_t> range(std::uint32_t node) const;
  void mark(std::uint32_t node, bool waits);
  void list_largest(bool tensors_too);

  const Sizes& sizes_;
  std::vector<Layer> layers_;               // largest first
  std::vector<std::uint32_t> by_position_;  // index into layers_, in depth-first order
  std::vector<std::uint32_t> position_;     // by module: layers before it in depth-first order
  std::vector<std::uint32_t> of_tensor_;    // index into layers_ of the root's own tensors
  std::vector<bool> waits_;                 // by index into layers_
  std::vector<bool> listed_;
  std::vector<std::uint32_t> list_;  // the largest ones, as of the last look
  std::size_t listed_count_ = 0;
  std::size_t top_ = 0;  // every layer before this one is placed for good
  Eighths size_ = 0;
};

WaitingLayers::WaitingLayers(const Sizes& sizes) : sizes_(sizes) {
  const ModelTree& tree = sizes.tree;
  std::vector<std::uint32_t> nodes;
  position_.assign(sizes.modules + 1, 0);
  for (std::uint32_t at = 1; at < sizes.order.size();) {
    const ModuleId m = sizes.order[at];
    position_[at] = static_cast<std::uint32_t>(nodes.size());
    if (!tree.modules[m].children.empty() && !tree.modules[m].no_split) {
      ++at;
      continue;
    }
    nodes.push_back(m);
    for (++at; at < sizes.leave[m]; ++at) position_[at] = static_cast<std::uint32_t>(nodes.size());
  }
  position_[sizes.order.size()] = static_cast<std::uint32_t>(nodes.size());

  for (std::uint32_t node : nodes) layers_.push_back({node, sizes.size[node]});
  for (TensorId t : tree.modules[0].tensors) {
    layers_.push_back({sizes.modules + t, sizes.size[sizes.modules + t]});
  }
  std::stable_sort(layers_.begin(), layers_.end(),
                   [](const Layer& a, const Layer& b) { return a.size > b.size; });
  by_position_.resize(nodes.size());
  of_tensor_.assign(tree.tensors.size(), kNone);
  for (std::uint32_t i = 0; i < layers_.size(); ++i) {
    const std::uint32_t node = layers_[i].node;
    if (sizes.is_module(node)) {
      by_position_[position_[sizes.enter[node]]] = i;
    } else {
      of_tensor_[node - sizes.modules] = i;
    }
  }
  waits_.assign(layers_.size(), true);
  listed_.assign(layers_.size(), false);
  list_largest(true);
}

std::pair<std::size_t, std::size_t> WaitingLayers::range(std::uint32_t node) const {
  return {position_[sizes_.enter[node]], position_[sizes_.leave[node]]};
}

void WaitingLayers::mark(std::uint32_t node, bool waits) {
  if (!sizes_.is_module(node)) return;
  const auto [first, last] = range(node);
  for (std::size_t i = first; i < last; ++i) waits_[by_position_[i]] = waits;
}

void WaitingLayers::list_largest(bool tensors_too) {
  for (std::uint32_t i : list_) listed_[i] = false;
  list_.clear();
  size_ = 0;
  for (auto i = static_cast<std::uint32_t>(top_); i < layers_.size(); ++i) {
    if (!list_.empty() && layers_[i].size < size_) break;
    if (!waits_[i] || (!tensors_too && !sizes_.is_module(layers_[i].node))) continue;
    size_ = layers_[i].size;
    list_.push_back(i);
    listed_[i] = true;
  }
  listed_count_ = list_.size();
}

void WaitingLayers::recompute() { list_largest(false); }

void WaitingLayers::take(std::uint32_t node) {
  while (top_ < layers_.size() && !waits_[top_]) ++top_;
  mark(node, false);
  auto forget = [&](std::uint32_t i) {
    if (listed_[i]) {
      listed_[i] = false;
      --listed_count_;
    }
  };
  if (sizes_.is_module(node)) {
    const auto [first, last] = range(node);
    for (std::size_t i = first; i < last; ++i) forget(by_position_[i]);
  } else if (const std::uint32_t i = of_tensor_[node - sizes_.modules]; i != kNone) {
    waits_[i] = false;
    forget(i);
  }
  if (listed_count_ == 0) recompute();
}

// infer_auto_device_map's list of what is still to be placed.
class Queue {
 public:
  explicit Queue(std::size_t nodes) : next_(nodes + 1), before_(nodes + 1), in_(nodes, false) {
    end_ = static_cast<std::uint32_t>(nodes);
    next_[end_] = before_[end_] = end_;
  }
  bool empty() const { return next_[end_] == end_; }
  bool holds(std::uint32_t node) const { return in_[node]; }
  std::uint32_t pop() {
    const std::uint32_t node = next_[end_];
    remove(node);
    return node;
  }
  void push_front(std::uint32_t node) { insert_before(next_[end_], node); }
  void push_back(std::uint32_t node) { insert_before(end_, node); }
  void insert_before(std::uint32_t where, std::uint32_t node) {
    next_[node] = where;
    before_[node] = before_[where];
    next_[before_[where]] = node;
    before_[where] = node;
    in_[node] = true;
  }
  void remove(std::uint32_t node) {
    next_[before_[node]] = next_[node];
    before_[next_[node]] = before_[node];
    in_[node] = false;
  }

 private:
  std::vector<std::uint32_t> next_, before_;
  std::vector<bool> in_;
  std::uint32_t end_;
};

class Inference {
 public:
  Inference(const Sizes& sizes, const std::vector<Budget>& budgets)
      : sizes_(sizes),
        tree_(sizes.tree),
        budgets_(budgets),
        queue_(sizes.size.size()),
        layers_(sizes),
        assigned(sizes.size.size(), kNone) {}

  void run();

 private:
  struct Partners {
    std::vector<std::uint32_t> owners;  // queue entries that hold a tied partner; may repeat
    Eighths need = 0;                   // bytes that they add
  };
  Partners partners(std::uint32_t node);
  bool splittable(std::uint32_t node) const {
    return sizes_.is_module(node) && !tree_.modules[node].children.empty() &&
           !tree_.modules[node].no_split;
  }
  // Puts `node`'s parameters and children where `node` would stand, before `where`.
  template <typename Insert>
  void split(std::uint32_t node, Insert insert);
  bool split_partner(const Partners& tied);
  void place(std::uint32_t node, std::uint32_t device) { assigned[node] = device; }

  const Sizes& sizes_;
  const ModelTree& tree_;
  const std::vector<Budget>& budgets_;
  Queue queue_;
  WaitingLayers layers_;

 public:
  std::vector<std::uint32_t> assigned;  // by node: the device of a key of the raw map, or kNone
  std::vector<std::string> notes;
};

// A partner counts as outside by Accelerate's test: "name." is no substring of "partner.". It is a
// substring test, not a prefix test: `head` counts as holding `lm_head.weight`.
Inference::Partners Inference::partners(std::uint32_t node) {
  Partners out;
  if (sizes_.ties.empty()) return out;
  const std::string needle = sizes_.name(node) + ".";
  std::string hay;
  for (const auto& members : sizes_.ties) {
    std::vector<TensorId> outside;
    for (TensorId t : members) {
      hay.assign(tree_.tensors[t].name).push_back('.');
      if (hay.find(needle) == std::string::npos) outside.push_back(t);
    }
    if (outside.size() == members.size()) continue;
    for (TensorId t : outside) {
      ModuleId owner = tree_.tensors[t].module;
      while (owner != kNone && !queue_.holds(owner)) owner = tree_.modules[owner].parent;
      if (owner == kNone) {
        notes.push_back("Accelerate fails here: " + tree_.tensors[t].name + ", tied to part of " +
                        sizes_.name(node) + ", is placed already; it was left where it is");
        continue;
      }
      out.owners.push_back(owner);
      out.need += sizes_.size[owner] - sizes_.size[sizes_.modules + t];
    }
  }
  return out;
}

template <typename Insert>
void Inference::split(std::uint32_t node, Insert insert) {
  for (TensorId t : tree_.modules[node].tensors) {
    if (!tree_.tensors[t].buffer) insert(sizes_.modules + t);  // its buffers are forgotten
  }
  for (ModuleId child : tree_.modules[node].children) insert(child);
}

bool Inference::split_partner(const Partners& tied) {
  for (std::uint32_t owner : tied.owners) {
    if (!splittable(owner)) continue;
    split(owner, [&](std::uint32_t part) { queue_.insert_before(owner, part); });
    queue_.remove(owner);
    return true;
  }
  return false;
}

void Inference::run() {
  for (TensorId t : tree_.modules[0].tensors) {
    if (!tree_.tensors[t].buffer) queue_.push_back(sizes_.modules + t);
  }
  for (ModuleId child : tree_.modules[0].children) queue_.push_back(child);
  for (TensorId t : tree_.modules[0].tensors) {
    if (tree_.tensors[t].buffer) queue_.push_back(sizes_.modules + t);
  }

  std::uint32_t device = 0;
  Eighths used = 0;  // of the current device: those before it are never returned to
  auto again = [&](std::uint32_t node) {
    queue_.push_front(node);
    layers_.put_back(node);
  };
  while (!queue_.empty()) {
    const std::uint32_t node = queue_.pop();
    layers_.take(node);
    const Eighths size = sizes_.size[node];
    const Partners tied = partners(node);
    const bool disk = budgets_[device].device == "disk";
    const bool holds_back = device == 0 ? !disk : budgets_[device].device == "cpu";
    const Eighths room = to_eighths(budgets_[device].bytes) - (holds_back ? layers_.size() : 0);

    if (disk || used + size + tied.need <= room) {
      used += size + tied.need;
      place(node, device);
      for (std::uint32_t owner : tied.owners) {
        if (!queue_.holds(owner)) continue;
        queue_.remove(owner);
        layers_.drop(owner);
        place(owner, device);
      }
      continue;
    }
    if (!tied.owners.empty() && used + size <= room && split_partner(tied)) {
      again(node);
      layers_.recompute();
      continue;
    }
    if (used + size >= room && splittable(node)) {
      std::vector<std::uint32_t> parts;
      split(node, [&](std::uint32_t part) { parts.push_back(part); });
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) queue_.push_front(*part);
      layers_.put_back(node);
      layers_.recompute();
      continue;
    }
    ++device;
    used = 0;
    again(node);
  }
}

// clean_device_map: a module all of whose keys (two or more) share a device becomes the one key.
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
  std::vector<std::uint32_t> keys_;    // by module: keys below it
  std::vector<std::uint32_t> device_;  // by module: their one device, or kMixed
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
  for (auto at = sizes.order.rbegin(); at != sizes.order.rend(); ++at) {
    const Module& module = sizes.tree.modules[*at];
    for (TensorId t : module.tensors) {
      const std::uint32_t device = assigned[sizes.modules + t];
      if (device != kNone) add(*at, 1, device);
    }
    if (module.parent == kNone) continue;
    if (assigned[*at] != kNone) {
      add(module.parent, 1, assigned[*at]);
    } else {
      add(module.parent, keys_[*at], device_[*at]);
    }
  }
}

void Cleaner::emit(std::uint32_t node, std::uint32_t device) {
  result_.device_map.push_back({sizes_.name(node), budgets_[device].device});
  if (!sizes_.is_module(node)) {
    result_.tensor_device[node - sizes_.modules] = device;
    return;
  }
  for (std::uint32_t at = sizes_.enter[node]; at < sizes_.leave[node]; ++at) {
    for (TensorId t : sizes_.tree.modules[sizes_.order[at]].tensors) {
      result_.tensor_device[t] = device;
    }
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
  for (std::uint32_t at = sizes_.enter[module]; at < sizes_.leave[module]; ++at) {
    for (TensorId t : sizes_.tree.modules[sizes_.order[at]].tensors) {
      if (result_.tensor_device[t] != kNone) return result_.tensor_device[t];
    }
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
    // A buffer that Accelerate forgot when it split the module: it goes where the module begins.
    const std::uint32_t device = first_device_in(tree.tensors[t].module);
    emit(sizes_.modules + t, device);
    result_.notes.push_back("Accelerate gives no device for the buffer " + tree.tensors[t].name +
                            "; it goes to " + budgets_[device].device + " with its module");
  }
  return std::move(result_);
}

}  // namespace

std::vector<Budget> accelerate_order(const std::vector<Budget>& budgets) {
  std::vector<Budget> out;
  for (const Budget& budget : budgets) {
    for (const Budget& other : out) {
      if (other.device == budget.device) {
        throw Error("max_memory: device '" + budget.device + "' is given twice");
      }
    }
    if (is_gpu(budget.device)) gpu_number(budget.device);
    if (budget.device != "disk") out.push_back(budget);
  }
  std::stable_sort(out.begin(), out.end(), [](const Budget& a, const Budget& b) {
    if (!is_gpu(a.device) || !is_gpu(b.device)) return is_gpu(a.device) && !is_gpu(b.device);
    return gpu_number(a.device) < gpu_number(b.device);
  });
  out.push_back({"disk", std::numeric_limits<std::uint64_t>::max()});
  return out;
}

std::vector<Budget> balanced_memory(const ModelTree& tree, std::vector<Budget> budgets,
                                    bool low_zero, bool probed, std::vector<std::string>& notes) {
  std::vector<Budget*> gpus;  // with memory, ascending
  for (Budget& budget : budgets) {
    if (is_gpu(budget.device) && budget.bytes > 0) gpus.push_back(&budget);
  }
  if (gpus.empty()) return budgets;
  if (gpus.size() == 1) {
    low_zero = false;
    if (probed) gpus[0]->bytes = gpus[0]->bytes / 10 * 9 + gpus[0]->bytes % 10 * 9 / 10;
  }
  const Sizes sizes(tree);
  auto budget_of = [&](std::uint32_t number) -> Budget* {
    for (Budget& budget : budgets) {
      if (is_gpu(budget.device) && gpu_number(budget.device) == number) return &budget;
    }
    notes.push_back("Accelerate fails here: balanced_low_0 wants a GPU " + std::to_string(number) +
                    "; it was counted as having no memory");
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
    if (Budget* zero = budget_of(0)) {
      zero->bytes = std::min(zero->bytes, total > others ? total - others : 0);
    }
  }
  return budgets;
}

AccelerateResult accelerate_place(const ModelTree& tree, Policy policy,
                                  const std::vector<Budget>& budgets, bool probed) {
  std::vector<Budget> ordered = accelerate_order(budgets);
  std::vector<std::string> notes;
  if (policy != Policy::kSequential) {
    ordered =
        balanced_memory(tree, std::move(ordered), policy == Policy::kBalancedLow0, probed, notes);
  }
  const Sizes sizes(tree);
  Inference inference(sizes, ordered);
  inference.run();
  notes.insert(notes.end(), inference.notes.begin(), inference.notes.end());
  return Cleaner(sizes, ordered, inference.assigned).finish(std::move(notes));
}

}  // namespace berth

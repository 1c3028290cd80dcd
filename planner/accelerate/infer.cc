// infer_auto_device_map. Accelerate keeps a list of (name, module) pairs and compares string
// prefixes. Here the list is a linked list of ids, "is inside" is a test of ranges in depth-first
// order, and the largest layer that still waits is found in a list that is sorted by size once.
#include <algorithm>

#include "planner/accelerate/tree.h"

namespace berth::accelerate {
namespace {

// The layers that wait to be placed: leaf modules, no-split modules, and tensors of the root
// itself. Knows the size of the largest, for which Accelerate keeps space free. Accelerate looks
// for the largest layer anew only at certain steps, and its answer may be out of date in between;
// this class does the same.
class WaitingLayers {
 public:
  explicit WaitingLayers(const Sizes& sizes);

  Eighths size() const { return size_; }

  // `node` has left the queue: it and what is in it no longer waits. Looks for the next largest
  // layer once all layers of the known largest size are gone.
  void take(std::uint32_t node);
  void put_back(std::uint32_t node) { mark(node, true); }
  // The same without looking, so that size() may be that of a layer that is gone.
  void drop(std::uint32_t node) { mark(node, false); }
  void recompute();

 private:
  struct Layer {
    std::uint32_t node;
    Eighths size;
  };
  // The range [first, last) of by_position_ that the layers inside `node` take.
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
  std::vector<std::uint32_t> list_;  // the layers of the largest size, when last looked for
  std::size_t listed_count_ = 0;     // how many of them still wait
  std::size_t top_ = 0;              // every layer before this one is placed for good
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

// infer_auto_device_map's list of nodes that are still to be placed.
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
  Inference(const Sizes& sizes, const std::vector<Budget>& budgets,
            const std::vector<Eighths>& space)
      : sizes_(sizes),
        tree_(sizes.tree),
        budgets_(budgets),
        space_(space),
        queue_(sizes.size.size()),
        layers_(sizes),
        assigned(sizes.size.size(), kNone) {}

  void run();

 private:
  // The modules and tensors that would have to go with a node, because of tied tensors.
  struct Partners {
    std::vector<std::uint32_t> owners;  // queue entries that hold a tied partner; may repeat
    Eighths need = 0;                   // what they add to the node's size
  };
  Partners partners(std::uint32_t node);
  bool splittable(std::uint32_t node) const {
    return sizes_.is_module(node) && !tree_.modules[node].children.empty() &&
           !tree_.modules[node].no_split;
  }
  // Calls `insert` for each parameter and child of `node`, which take its place in the queue.
  template <typename Insert>
  void split(std::uint32_t node, Insert insert);
  // Splits the first of the partners that may be split; false if there is none.
  bool split_partner(const Partners& tied);
  void place(std::uint32_t node, std::uint32_t device) { assigned[node] = device; }

  const Sizes& sizes_;
  const ModelTree& tree_;
  const std::vector<Budget>& budgets_;
  const std::vector<Eighths>& space_;
  Queue queue_;
  WaitingLayers layers_;

 public:
  std::vector<std::uint32_t> assigned;  // see Raw
  std::vector<std::string> notes;
};

// The partners of `node`: tensors tied to one in it that are outside of it themselves. By
// Accelerate's test a tensor is outside if "<node>." is not a substring of "<tensor>.". As that is
// no test of prefixes, a module `head` counts as holding `lm_head.weight`; this is kept.
Inference::Partners Inference::partners(std::uint32_t node) {
  Partners out;
  if (sizes_.ties.empty()) return out;
  const std::string needle = std::string(sizes_.name(node)) + ".";
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
        notes.push_back("Accelerate fails here: " + std::string(tree_.tensors[t].name) +
                        ", tied to a tensor of " + std::string(sizes_.name(node)) +
                        ", is placed already; it was left where it is");
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
    if (!tree_.tensors[t].buffer) insert(sizes_.modules + t);  // Accelerate forgets the buffers
  }
  for (ModuleId child : tree_.modules[node].children) insert(child);
}

bool Inference::split_partner(const Partners& tied) {
  for (std::uint32_t owner : tied.owners) {
    if (!splittable(owner)) continue;
    split(owner, [&](std::uint32_t inner) { queue_.insert_before(owner, inner); });
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
  Eighths used = 0;  // of the current device; earlier ones are never returned to
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
    const Eighths space = space_[device] - (holds_back ? layers_.size() : 0);

    if (disk || used + size + tied.need <= space) {
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
    if (!tied.owners.empty() && used + size <= space && split_partner(tied)) {
      again(node);
      layers_.recompute();
      continue;
    }
    if (used + size >= space && splittable(node)) {
      std::vector<std::uint32_t> inner;
      split(node, [&](std::uint32_t one) { inner.push_back(one); });
      for (auto one = inner.rbegin(); one != inner.rend(); ++one) queue_.push_front(*one);
      layers_.put_back(node);
      layers_.recompute();
      continue;
    }
    ++device;
    used = 0;
    again(node);
  }
}

}  // namespace

Raw infer(const Sizes& sizes, const std::vector<Budget>& devices,
          const std::vector<Eighths>& space) {
  Inference inference(sizes, devices, space);
  inference.run();
  return {std::move(inference.assigned), std::move(inference.notes)};
}

}  // namespace berth::accelerate

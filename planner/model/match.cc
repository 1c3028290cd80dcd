// Joining a tree with a checkpoint: stored names, dtypes and shapes against what the config asks.

#include <fnmatch.h>

#include <algorithm>
#include <utility>

#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/quote.h"
#include "planner/model/build.h"

namespace berth {
namespace {

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string out = "[";
  for (const std::uint64_t size : shape) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(size);
  }
  return out += ']';
}

// ", and 12 more" for a list of which one was named.
std::string and_more(std::size_t count) {
  return count > 1 ? ", and " + std::to_string(count - 1) + " more" : "";
}

// By number, for a NameTable of the tree's tensors.
struct TensorNames {
  const ModelTree& tree;
  std::string_view operator()(TensorId id) const { return tree.tensors[id].name; }
};

class Matcher {
 public:
  Matcher(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
          const Checkpoint& checkpoint, std::optional<DType> dtype)
      : tree_(built.tree),
        ignored_(built.ignored),
        architecture_(architecture),
        config_(config),
        checkpoint_(checkpoint),
        wanted_(dtype),
        names_{built.tree},
        by_name_(built.tree.tensors.size()) {}

  void run() {
    for (TensorId id = 0; id < tree_.tensors.size(); ++id) {
      if (tree_.tensors[id].persistent) by_name_.insert(tree_.tensors[id].name, id, names_);
    }
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) place(i);
    settle_ties();
    report();
  }

 private:
  const TensorInfo& stored(std::uint32_t index) const { return checkpoint_.tensors[index]; }
  std::string shard_of(std::uint32_t index) const {
    return checkpoint_.shards[stored(index).shard].path.string();
  }

  // kNone where there is none, as NameTable says it too.
  static_assert(NameTable::kAbsent == kNone);
  TensorId find(std::string_view name) const { return by_name_.find(name, names_); }

  // The tensor that a stored name means: as it stands, renamed, and each with a prefix before it.
  TensorId find_variant(const std::string& name) const {
    if (const TensorId id = find(name); id != kNone) return id;
    std::string renamed = name;
    for (const auto& [from, to] : architecture_.renames) {
      const std::size_t at = renamed.find(from);
      if (at != renamed.npos) renamed.replace(at, from.size(), to);
    }
    if (const TensorId id = find(renamed); id != kNone) return id;
    for (const std::string& prefix : architecture_.prefixes) {
      if (const TensorId id = find(prefix + renamed); id != kNone) return id;
    }
    return kNone;
  }

  bool is_ignored(const std::string& name) const {
    return std::ranges::any_of(ignored_, [&](const std::string& glob) {
      return ::fnmatch(glob.c_str(), name.c_str(), 0) == 0;
    });
  }

  void place(std::uint32_t index) {
    const TensorInfo& info = stored(index);
    const TensorId id = find_variant(info.name);
    if (id == kNone) {
      if (is_ignored(info.name)) {
        tree_.ignored_bytes += info.bytes();
      } else {
        surplus_.push_back(index);
      }
      return;
    }
    ModelTensor& tensor = tree_.tensors[id];
    if (tensor.source != kNone) {
      throw Error(shard_of(index) + ": tensors " + quote(stored(tensor.source).name) + " and " +
                  quote(info.name) + " are both " + quote(tensor.name) + " of the model");
    }
    if (tensor.shape != info.shape) {
      throw Error(shard_of(index) + ": tensor " + quote(info.name) + " has shape " +
                  shape_text(info.shape) + ", " + config_.source() + " asks for " +
                  shape_text(tensor.shape));
    }
    adopt(tensor, index);
  }

  void adopt(ModelTensor& tensor, std::uint32_t index) const {
    tensor.source = index;
    tensor.stored = stored(index).dtype;
    tensor.dtype = memory_dtype(tensor.stored, wanted_);
  }

  // A group is read from the first of its members that is stored. Further stored members are
  // copies that a tied model does not use.
  void settle_ties() {
    for (const auto& group : tree_.ties) {
      std::uint32_t source = kNone;
      for (const TensorId id : group) {
        const std::uint32_t own = std::exchange(tree_.tensors[id].source, kNone);
        if (own == kNone) continue;
        if (source == kNone) {
          source = own;
        } else {
          tree_.ignored_bytes += stored(own).bytes();
        }
      }
      if (source == kNone) continue;
      for (const TensorId id : group) adopt(tree_.tensors[id], source);
      for (const TensorId id : group) {
        if (id != group[0]) tree_.tensors[id].source = kNone;
      }
    }
  }

  void report() const {
    std::size_t missing = 0;
    const ModelTensor* first = nullptr;
    for (const ModelTensor& tensor : tree_.tensors) {
      if (!tensor.persistent || tensor.tied_to != kNone || tensor.source != kNone) continue;
      if (missing++ == 0) first = &tensor;
    }
    const std::string surplus = surplus_.empty() ? ""
                                                 : "tensor " + quote(stored(surplus_[0]).name) +
                                                       " " + shape_text(stored(surplus_[0]).shape) +
                                                       and_more(surplus_.size());
    if (missing > 0) {
      throw Error(checkpoint_.folder.string() + ": the checkpoint lacks tensor " +
                  quote(first->name) + " " + shape_text(first->shape) + and_more(missing) +
                  ", which " + config_.source() + " asks for" +
                  (surplus.empty() ? "" : "; it holds unknown " + surplus));
    }
    if (!surplus.empty()) {
      throw Error(shard_of(surplus_[0]) + ": " + surplus + ": not part of the " +
                  architecture_.model_type + " model that " + config_.source() + " describes");
    }
  }

  ModelTree& tree_;
  const std::vector<std::string>& ignored_;
  const Architecture& architecture_;
  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  std::optional<DType> wanted_;
  TensorNames names_;
  NameTable by_name_;  // persistent tensors of the tree
  std::vector<std::uint32_t> surplus_;
};

}  // namespace

void match_checkpoint(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
                      const Checkpoint& checkpoint, std::optional<DType> dtype) {
  Matcher(built, architecture, config, checkpoint, dtype).run();
}

}  // namespace berth

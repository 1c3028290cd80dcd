#include "planner/checkpoint/torch/state_dict.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/name_table.h"

namespace berth {
namespace {

constexpr std::string_view kUsualNames[] = {"state_dict", "model_state_dict", "model", "module"};
constexpr int kDeepest = 4;

class Finder {
 public:
  Finder(const PickleMachine& machine, const TorchHost& host, const CheckpointLimits& limits)
      : machine_(machine), host_(host), limits_(limits), holds_(machine.containers(), kUnknown) {}

  PickleValue find(PickleValue root) {
    if (host_.tensor(root) != nullptr) {
      machine_.fail(root.at, "the file holds one tensor, not a state dict with names");
    }
    for (int depth = 0; depth < kDeepest && root.kind == PickleKind::kDict; ++depth) {
      const std::vector<Child> children = candidates(root);
      // Training checkpoints keep the states of random generators beside the state dict.
      const bool beside = std::ranges::any_of(
          children, [](const Child& child) { return child.usual && child.holds; });
      if (holds_tensors(root) && !beside) return root;
      if (children.empty()) break;
      root = choose(children, root.at);
    }
    machine_.fail(root.at, "the file holds no state dict: no dict in it maps names to tensors");
  }

  // The dict that `part` names. A name may hold slashes itself, so the longest that is there
  // counts.
  PickleValue find_part(PickleValue root, std::string_view part) const {
    while (!part.empty()) {
      if (root.kind != PickleKind::kDict) fail(root.at, "the file holds no dict to name with '@'");
      std::size_t end = part.size();
      std::optional<PickleValue> found;
      while (!(found = member(root, part.substr(0, end)))) {
        end = end == 0 ? part.npos : part.rfind('/', end - 1);
        if (end == part.npos || end == 0) fail_part(root, part);
      }
      root = *found;
      part.remove_prefix(std::min(end + 1, part.size()));
    }
    return root;
  }

  std::vector<NamedTensor> collect(PickleValue dict) const {
    const auto pairs = machine_.pairs(dict);
    std::vector<NamedTensor> found;
    NameTable names(pairs.size() / 2);
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return found[i].name; };
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      const TorchTensor* tensor = host_.tensor(pairs[i + 1]);
      if (tensor == nullptr) continue;
      const PickleValue key = pairs[i];
      const std::optional<std::string> named = name_of_key(key);
      if (!named) fail(tensor->at, "a tensor's name is neither a string nor a number");
      const std::string& name = *named;
      if (name.empty()) fail(key.at, "a tensor has an empty name");
      if (name.size() > limits_.name_bytes) {
        fail(key.at, "tensor " + quote(name) + ": the name has " + std::to_string(name.size()) +
                         " bytes, the limit is " + std::to_string(limits_.name_bytes));
      }
      const auto number = static_cast<std::uint32_t>(found.size());
      if (names.insert(name, number, name_of) != NameTable::kAbsent) {
        fail(key.at, "tensor " + quote(name) + ": the name appears twice");
      }
      if (found.size() >= limits_.tensors) {
        fail(key.at, "more than " + std::to_string(limits_.tensors) + " tensors");
      }
      if (!tensor->problem.empty()) {
        fail(tensor->at, "tensor " + quote(name) + ": " + std::string(tensor->problem) +
                             (tensor->type.empty() ? "" : ": " + std::string(tensor->type)));
      }
      check_metadata(name, *tensor);
      NamedTensor& added = found.emplace_back();
      added.name = name;
      added.tensor = tensor;
      set_shape(added);
    }
    return found;
  }

 private:
  enum Holds : std::uint8_t { kUnknown, kNo, kYes };
  struct Child {
    std::string name;
    PickleValue dict;
    bool usual = false;  // it has a name that is usual for state dicts
    bool holds = false;  // tensors stand in it directly
  };

  [[noreturn]] void fail(std::uint32_t at, const std::string& what) const {
    machine_.fail(at, what);
  }

  // Nothing for a key that is neither a string nor a number.
  std::optional<std::string> name_of_key(PickleValue key) const {
    if (key.kind == PickleKind::kText) return std::string(machine_.text(key));
    if (key.kind == PickleKind::kInt) {
      return std::to_string(static_cast<std::int64_t>(key.payload));
    }
    return std::nullopt;
  }

  // The dict called `name` in `dict`; nothing if there is none.
  std::optional<PickleValue> member(PickleValue dict, std::string_view name) const {
    const auto pairs = machine_.pairs(dict);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      if (pairs[i + 1].kind == PickleKind::kDict && name_of_key(pairs[i]) == name) {
        return pairs[i + 1];
      }
    }
    return std::nullopt;
  }

  [[noreturn]] void fail_part(PickleValue dict, std::string_view part) const {
    std::vector<std::string> names;
    const auto pairs = machine_.pairs(dict);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      const auto name = name_of_key(pairs[i]);
      if (name && pairs[i + 1].kind == PickleKind::kDict) names.push_back(quote(*name));
    }
    fail(dict.at, "the file has no dict " + quote(part) +
                      (names.empty() ? "" : " (there are " + listed(names) + ")"));
  }

  static std::string listed(const std::vector<std::string>& names) {
    constexpr std::size_t kShown = 3;
    return join(std::span(names).first(std::min(names.size(), kShown)), ", ") +
           (names.size() > kShown ? ", ..." : "");
  }

  // Looks at each dict only once, because many names may refer to the same one.
  bool holds_tensors(PickleValue dict) {
    Holds& holds = holds_[machine_.container(dict)];
    if (holds == kUnknown) {
      const auto pairs = machine_.pairs(dict);
      holds = kNo;
      for (std::size_t i = 1; i < pairs.size() && holds == kNo; i += 2) {
        if (host_.tensor(pairs[i]) != nullptr) holds = kYes;
      }
    }
    return holds == kYes;
  }

  // The dicts below `parent` that hold tensors, or whose names suggest that they lead to some.
  std::vector<Child> candidates(PickleValue parent) {
    std::vector<Child> found;
    const auto pairs = machine_.pairs(parent);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      if (pairs[i + 1].kind != PickleKind::kDict) continue;
      std::optional<std::string> name = name_of_key(pairs[i]);
      if (!name) continue;
      const bool usual = std::ranges::find(kUsualNames, *name) != std::end(kUsualNames);
      const bool empty = machine_.pairs(pairs[i + 1]).empty();
      const bool holds = holds_tensors(pairs[i + 1]);
      if (holds || (usual && !empty)) {
        found.push_back({std::move(*name), pairs[i + 1], usual, holds});
      }
    }
    return found;
  }

  PickleValue choose(const std::vector<Child>& children, std::uint32_t at) const {
    if (children.size() == 1) return children[0].dict;
    for (const bool with_tensors : {true, false}) {
      const auto fits = [&](const Child& child) {
        return child.usual && (child.holds || !with_tensors);
      };
      if (std::ranges::count_if(children, fits) == 1) {
        return std::ranges::find_if(children, fits)->dict;
      }
    }
    std::vector<std::string> names;
    for (const Child& child : children) names.push_back(quote(child.name));
    fail(at, "several dicts of the file could be the state dict (" + listed(names) +
                 "); name the one that you mean, as in FILE@" + printable(children[0].name));
  }

  void set_shape(NamedTensor& named) const {
    const TorchTensor& tensor = *named.tensor;
    const auto sizes = machine_.items(tensor.shape);
    const auto strides = machine_.items(tensor.strides);
    const auto refuse = [&](const std::string& what) {
      fail(tensor.at, "tensor " + quote(named.name) + ": " + what);
    };
    if (sizes.size() != strides.size() || sizes.size() > limits_.rank) {
      refuse("has " + std::to_string(sizes.size()) + " dimensions and " +
             std::to_string(strides.size()) + " strides");
    }
    bool empty = false;
    for (const PickleValue size : sizes) {
      if (size.kind != PickleKind::kInt || size.payload >> 63 != 0) {
        refuse("shape[" + std::to_string(named.shape.size()) + "] is not a count");
      }
      named.shape.push_back(size.payload);
      empty = empty || size.payload == 0;
    }
    // The stride of a dimension says nothing if the dimension has one element, or the tensor has
    // none.
    bool in_order = true;
    std::uint64_t expected = 1;
    for (std::size_t i = sizes.size(); i-- > 0 && !empty;) {
      const bool count = strides[i].kind == PickleKind::kInt && strides[i].payload >> 63 == 0;
      if (named.shape[i] != 1 && !count) {
        refuse("its stride " + std::to_string(i) + " is not a count");
      }
      in_order = in_order && (named.shape[i] == 1 || strides[i].payload == expected);
      if (__builtin_mul_overflow(expected, named.shape[i], &expected)) {
        refuse("the shape's size overflows");
      }
    }
    if (in_order) return;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      named.strides.push_back(named.shape[i] == 1 ? 0 : strides[i].payload);
    }
  }

  // PyTorch negates and conjugates lazily: the storage keeps the old values, and a bit of the
  // tensor says what they stand for. If they were read as they are, they would be wrong without
  // anyone noticing. A key of the metadata sets its bit by being there, whatever its value.
  void check_metadata(std::string_view name, const TorchTensor& tensor) const {
    if (tensor.metadata.kind == PickleKind::kNone) return;
    const auto refuse = [&](const std::string& why) {
      fail(tensor.at, "tensor " + quote(name) + ": " + why);
    };
    if (tensor.metadata.kind != PickleKind::kDict) refuse("its metadata is not a dict");
    bool negated = false;
    bool conjugated = false;
    const auto pairs = machine_.pairs(tensor.metadata);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      if (pairs[i].kind != PickleKind::kText) refuse("a key of its metadata is not a string");
      const std::string_view key = machine_.text(pairs[i]);
      if (key != "neg" && key != "conj") refuse("its metadata " + quote(key) + " is unknown");
      (key == "neg" ? negated : conjugated) = true;
    }
    if (!negated && !conjugated) return;
    const auto both = [&](const char* neg, const char* between, const char* conj) {
      return std::string(negated ? neg : "") + (negated && conjugated ? between : "") +
             (conjugated ? conj : "");
    };
    refuse("is a view that is " + both("negated", " and ", "conjugated") +
           ", whose values are not those of its storage: write it with " +
           both(".resolve_neg()", "", ".resolve_conj()") + " and save it again");
  }

  const PickleMachine& machine_;
  const TorchHost& host_;
  const CheckpointLimits& limits_;
  std::vector<Holds> holds_;  // by the number of the container
};

}  // namespace

std::vector<NamedTensor> find_state_dict(const PickleMachine& machine, const TorchHost& host,
                                         PickleValue root, std::string_view part,
                                         const CheckpointLimits& limits) {
  Finder finder(machine, host, limits);
  return finder.collect(finder.find(finder.find_part(root, part)));
}

}  // namespace berth

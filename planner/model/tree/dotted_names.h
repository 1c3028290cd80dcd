// The modules that the names of a checkpoint's tensors speak of: every dot stands for one.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

/// Compares the numbers inside two names by their value: "layer.2" comes before "layer.10".
struct NaturalLess {
  bool operator()(std::string_view a, std::string_view b) const;
};

struct NameNode {
  std::vector<std::pair<std::string_view, std::uint32_t>> children;  // name, node
  std::vector<std::uint32_t> tensors;  // the indices given to insert()
  bool list = false;                   // it has children, and the names of all are numbers
  bool holds_list = false;             // the node or one below it is a list
};

/// A tree of names, whose root is node 0. It refers to the names that it is given.
class DottedNames {
 public:
  /// Adds the modules of a tensor's name, as "model.norm" of "model.norm.weight".
  /// Throws Error when there are more than kMaxModules.
  void insert(std::string_view name, std::uint32_t index);

  enum class Order : std::uint8_t {
    kInserted,  // of lists by their numbers, of others as inserted
    kNatural,   // NaturalLess
  };

  /// Finds the lists and orders the children of every node. Called once, after the last insert().
  void settle(Order order) { settle(0, order); }

  const NameNode& node(std::uint32_t at) const { return nodes_[at]; }

 private:
  std::uint32_t child_of(std::uint32_t node, std::string_view name);
  void settle(std::uint32_t at, Order order);

  std::vector<NameNode> nodes_{1};
  std::map<std::pair<std::uint32_t, std::string_view>, std::uint32_t> by_parent_;
};

}  // namespace berth

#include "planner/model/tree/dotted_names.h"

#include <algorithm>
#include <string>

#include "berth/error.h"
#include "planner/base/digits.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

std::string_view without_zeros(std::string_view digits) {
  return digits.substr(std::min(digits.find_first_not_of('0'), digits.size() - 1));
}

}  // namespace

bool NaturalLess::operator()(std::string_view a, std::string_view b) const {
  while (!a.empty() && !b.empty()) {
    const auto digits_a = std::min(a.find_first_not_of(kDigits), a.size());
    const auto digits_b = std::min(b.find_first_not_of(kDigits), b.size());
    if (digits_a != 0 && digits_b != 0) {
      const std::string_view x = without_zeros(a.substr(0, digits_a));
      const std::string_view y = without_zeros(b.substr(0, digits_b));
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
      if (digits_a != digits_b) return digits_a < digits_b;
      a.remove_prefix(digits_a);
      b.remove_prefix(digits_b);
    } else {
      if (a[0] != b[0]) return a[0] < b[0];
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.size() < b.size();
}

std::uint32_t DottedNames::child_of(std::uint32_t node, std::string_view name) {
  const auto fresh = static_cast<std::uint32_t>(nodes_.size());
  const auto [known, added] = by_parent_.emplace(std::pair(node, name), fresh);
  if (!added) return known->second;
  if (nodes_.size() >= kMaxModules) {
    throw Error("more than " + std::to_string(kMaxModules) + " modules in tensor names");
  }
  nodes_[node].children.emplace_back(name, fresh);
  nodes_.emplace_back();
  return fresh;
}

void DottedNames::insert(std::string_view name, std::uint32_t index) {
  std::uint32_t node = 0;
  for (std::size_t dot = name.find('.'); dot != name.npos; dot = name.find('.')) {
    node = child_of(node, name.substr(0, dot));
    name.remove_prefix(dot + 1);
  }
  nodes_[node].tensors.push_back(index);
}

void DottedNames::settle(std::uint32_t at, Order order) {
  NameNode& node = nodes_[at];
  node.list = !node.children.empty();
  for (const auto& [name, child] : node.children) {
    settle(child, order);
    node.list = node.list && is_number(name);
    node.holds_list = node.holds_list || nodes_[child].holds_list;
  }
  node.holds_list = node.holds_list || node.list;
  if (node.list || order == Order::kNatural) {
    std::ranges::sort(node.children, NaturalLess(), [](const auto& child) { return child.first; });
  }
}

}  // namespace berth

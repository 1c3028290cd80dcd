#include <algorithm>
#include <cstring>

#include "cuda/reorder.h"

namespace berth {
namespace {

// Goes through units in stored order and knows where each belongs.
class Walk {
 public:
  Walk(const Reorder& order, std::size_t first) : order_(order) {
    const std::size_t group_units = order.rows * order.columns;
    group_ = first / group_units * group_units;
    row_ = first % group_units / order.columns;
    column_ = first % order.columns;
  }

  // Offset in bytes of the unit in the wanted order.
  std::size_t target() const { return (group_ + column_ * order_.rows + row_) * order_.unit; }

  void step() {
    if (++column_ < order_.columns) return;
    column_ = 0;
    if (++row_ < order_.rows) return;
    row_ = 0;
    group_ += order_.rows * order_.columns;
  }

 private:
  const Reorder& order_;
  std::size_t group_;  // the number of its first unit
  std::size_t row_;
  std::size_t column_;
};

// `kUnit` is the size of a unit where the compiler should know it, else 0.
template <std::size_t kUnit>
void move_units(const char* from, std::size_t count, std::size_t unit, Walk& walk, char* to) {
  for (std::size_t i = 0; i < count; ++i, walk.step()) {
    const std::size_t bytes = kUnit > 0 ? kUnit : unit;
    std::memcpy(to + walk.target(), from + i * bytes, bytes);
  }
}

}  // namespace

void reorder_on_host(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                     void* to) {
  const auto* source = static_cast<const char*>(from);
  auto* target = static_cast<char*>(to);
  Walk walk(order, at / order.unit);
  if (const std::size_t inside = at % order.unit; inside > 0 && bytes > 0) {
    const std::size_t rest = std::min(bytes, order.unit - inside);
    std::memcpy(target + walk.target() + inside, source, rest);
    if (inside + rest < order.unit) return;
    source += rest;
    bytes -= rest;
    walk.step();
  }
  const std::size_t whole = bytes / order.unit;
  switch (order.unit) {
    case 2:
      move_units<2>(source, whole, 2, walk, target);
      break;
    case 4:
      move_units<4>(source, whole, 4, walk, target);
      break;
    default:
      move_units<0>(source, whole, order.unit, walk, target);
  }
  const std::size_t rest = bytes - whole * order.unit;
  if (rest > 0) std::memcpy(target + walk.target(), source + whole * order.unit, rest);
}

}  // namespace berth

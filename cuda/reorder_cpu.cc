#include <algorithm>
#include <cstring>

#include "cuda/reorder.h"

namespace berth {
namespace {

// Divides the stored bytes [begin, end) into boxes.
class Boxes {
 public:
  Boxes(const Reorder& order, std::size_t begin, std::size_t end)
      : order_(order), begin_(begin), end_(end), spans_(order.dims.size() + 1, order.unit) {
    for (std::size_t k = order.dims.size(); k-- > 0;) {
      spans_[k] = spans_[k + 1] + (order.dims[k].size - 1) * order.dims[k].from;
    }
  }

  std::vector<ReorderBox> take() {
    visit(0, 0, 0);
    return std::move(boxes_);
  }

 private:
  // Takes what stands below dimension k, whose first unit is stored at `from` and wanted at `to`.
  void visit(std::size_t k, std::size_t from, std::size_t to) {
    if (from >= end_ || from + spans_[k] <= begin_) return;
    if (from >= begin_ && from + spans_[k] <= end_) return add(k, from, to, 0);
    if (k == order_.dims.size()) {  // a unit that the stretch cuts
      const std::size_t first = std::max(from, begin_);
      const std::size_t last = std::min(from + order_.unit, end_);
      boxes_.push_back({first - begin_, to + (first - from), last - first, {}});
      return;
    }
    const ReorderDim& dim = order_.dims[k];
    const std::size_t below = spans_[k + 1];
    if (dim.from == 0) {
      for (std::size_t i = 0; i < dim.size; ++i) visit(k + 1, from, to + i * dim.to);
      return;
    }
    // Indices [touched, past) reach into the stretch, [whole, rest) of them lie within it.
    const std::size_t touched = from + below > begin_ ? 0 : (begin_ - from - below) / dim.from + 1;
    const std::size_t past = std::min(dim.size, (end_ - 1 - from) / dim.from + 1);
    std::size_t whole = from >= begin_ ? 0 : (begin_ - from + dim.from - 1) / dim.from;
    std::size_t rest = from + below > end_ ? 0 : (end_ - from - below) / dim.from + 1;
    whole = std::clamp(whole, touched, past);
    rest = std::clamp(rest, whole, past);
    for (std::size_t i = touched; i < whole; ++i) {
      visit(k + 1, from + i * dim.from, to + i * dim.to);
    }
    if (rest > whole) add(k, from + whole * dim.from, to + whole * dim.to, rest - whole);
    for (std::size_t i = rest; i < past; ++i) {
      visit(k + 1, from + i * dim.from, to + i * dim.to);
    }
  }

  // Adds all of dimension k and those below; `count` is how many of dimension k, or 0 for all.
  void add(std::size_t k, std::size_t from, std::size_t to, std::size_t count) {
    ReorderBox& box = boxes_.emplace_back();
    box.from = from - begin_;
    box.to = to;
    box.unit = order_.unit;
    box.dims.assign(order_.dims.begin() + static_cast<std::ptrdiff_t>(k), order_.dims.end());
    if (count > 0) box.dims[0].size = count;
  }

  const Reorder& order_;
  std::size_t begin_;
  std::size_t end_;
  std::vector<std::size_t>
      spans_;  // by dimension: bytes from its first unit's start to its last's end
  std::vector<ReorderBox> boxes_;
};

// `kUnit` is the size of a unit where the compiler should know it, else 0.
template <std::size_t kUnit>
void move_line(const char* from, char* to, const ReorderDim& dim, std::size_t unit) {
  for (std::size_t i = 0; i < dim.size; ++i) {
    std::memcpy(to + i * dim.to, from + i * dim.from, kUnit > 0 ? kUnit : unit);
  }
}

template <std::size_t kUnit>
void move_box(const char* from, char* to, const ReorderDim* dims, std::size_t rank,
              std::size_t unit) {
  if (rank == 0) {
    std::memcpy(to, from, unit);
  } else if (rank == 1) {
    move_line<kUnit>(from, to, dims[0], unit);
  } else if (rank > 2) {
    for (std::size_t i = 0; i < dims[0].size; ++i) {
      move_box<kUnit>(from + i * dims[0].from, to + i * dims[0].to, dims + 1, rank - 1, unit);
    }
  } else {
    // In strips of few columns, so that what is written stays in the cache until a line is full.
    constexpr std::size_t kStrip = 32;
    for (std::size_t column = 0; column < dims[1].size; column += kStrip) {
      ReorderDim strip = dims[1];
      strip.size = std::min(kStrip, dims[1].size - column);
      const char* source = from + column * strip.from;
      char* target = to + column * strip.to;
      for (std::size_t row = 0; row < dims[0].size; ++row) {
        move_line<kUnit>(source + row * dims[0].from, target + row * dims[0].to, strip, unit);
      }
    }
  }
}

}  // namespace

Reorder make_reorder(const std::vector<ReorderDim>& dims, std::size_t unit) {
  Reorder order;
  order.unit = unit;
  for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) {
    if (dim->size == 1) continue;
    if (order.dims.empty() && dim->from == order.unit && dim->to == order.unit) {
      order.unit *= dim->size;
      continue;
    }
    ReorderDim* below = order.dims.empty() ? nullptr : &order.dims.back();
    if (below != nullptr && dim->from == below->size * below->from &&
        dim->to == below->size * below->to) {
      below->size *= dim->size;
    } else {
      order.dims.push_back(*dim);
    }
  }
  // They are in the reverse order now. Those of one step keep the order of the tensor.
  std::reverse(order.dims.begin(), order.dims.end());
  std::stable_sort(order.dims.begin(), order.dims.end(),
                   [](const ReorderDim& a, const ReorderDim& b) { return a.from > b.from; });
  return order;
}

std::vector<ReorderBox> boxes_of(const Reorder& order, std::size_t at, std::size_t bytes) {
  if (bytes == 0) return {};
  return Boxes(order, at, at + bytes).take();
}

void reorder_on_host(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                     void* to) {
  for (const ReorderBox& box : boxes_of(order, at, bytes)) {
    const char* source = static_cast<const char*>(from) + box.from;
    char* target = static_cast<char*>(to) + box.to;
    switch (box.unit) {
      case 1:
        move_box<1>(source, target, box.dims.data(), box.dims.size(), 1);
        break;
      case 2:
        move_box<2>(source, target, box.dims.data(), box.dims.size(), 2);
        break;
      case 4:
        move_box<4>(source, target, box.dims.data(), box.dims.size(), 4);
        break;
      case 8:
        move_box<8>(source, target, box.dims.data(), box.dims.size(), 8);
        break;
      default:
        move_box<0>(source, target, box.dims.data(), box.dims.size(), box.unit);
    }
  }
}

}  // namespace berth

#include "planner/search/packing.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <utility>

#include "planner/plan/budget.h"

namespace berth {
namespace {

// Answers that take this much more time than the best are remembered beside it, and so many.
constexpr double kNearly = 1.01;
constexpr std::size_t kMostOthers = 6;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Counts = std::vector<std::uint32_t>;  // by kind

std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }
std::uint64_t bytes_of(const PackKind& kind) { return kind.weights + kind.stays + kind.runs; }

// What an item takes of a bin.
struct Size {
  std::uint64_t bytes = 0;
  std::uint64_t weights = 0;
  std::uint64_t activation = 0;
  double time = 0;
  bool allowed = true;  // it may stand there at all
};

// What is left of a bin while it is filled.
struct Room {
  std::uint64_t bytes = 0;  // of which `activation` is yet to be taken
  std::uint64_t weights = 0;
  std::uint64_t activation = 0;
  double time = 0;

  // How many items fit, `limit` at the most.
  std::uint32_t most(const Size& size, std::uint32_t limit) const {
    const std::uint64_t workspace = std::max(activation, size.activation);
    if (!size.allowed || workspace > bytes) return 0;
    std::uint64_t count = limit;
    if (size.bytes > 0) count = std::min(count, (bytes - workspace) / size.bytes);
    if (size.weights > 0) count = std::min(count, weights / size.weights);
    while (count > 0 && static_cast<double>(count) * size.time > time) --count;
    return static_cast<std::uint32_t>(count);
  }
  void take(const Size& size, std::uint32_t count) {
    if (count == 0) return;
    bytes -= size.bytes * count;
    weights -= size.weights * count;
    activation = std::max(activation, size.activation);
    time -= size.time * count;
  }
};

struct Filling {
  Counts take;
  std::uint64_t bytes = 0;
  double time = 0;
  bool homes = false;  // it has more than experts: the chain leads there
  double gain = 0;     // ns that its items take here beyond the least that they take later
};

// One search, for one size of the buffer through which items of disks are read. Kinds are numbered
// by their position in `kinds_`, bins by theirs in `order_`.
class Fitting {
 public:
  Fitting(const Packing& packing, PackGoal goal, std::uint64_t buffer, std::uint64_t& steps);

  // Replaces `best` if it finds a better answer.
  void run(Packed& best);

 private:
  void put_in_order();
  void sum_up();
  // Whether the bin is the runner of disks that come after it. What is not yet placed then goes to
  // it or to them, and runs there either way.
  bool is_shared(std::size_t at) const { return disks_ && order_[at] == packing_.runner; }
  Size size_of(std::size_t at, std::uint32_t kind) const;
  Room bare_room(std::size_t at) const;
  Room room(std::size_t at) const;
  void fill(std::size_t at, std::size_t kind, const Room& room, Filling& so_far,
            std::vector<Filling>& out);
  std::vector<Filling> fillings(std::size_t at);
  struct Fill {
    std::uint64_t all = 0;
    std::uint64_t off_disk = 0;
  };
  Fill fillable(std::size_t at);
  bool is_hopeless(std::size_t at, double time);
  bool was_seen(std::size_t at, double time);
  void visit(std::size_t at, double time);
  void keep(double time);
  bool stop() const { return steps_ == 0 || (goal_ == PackGoal::kAny && best_->found()); }
  void spend(std::uint64_t steps) { steps_ -= std::min(steps_, steps); }

  const Packing& packing_;
  const PackGoal goal_;
  const std::uint64_t buffer_;
  std::uint64_t& steps_;
  bool disks_ = false;
  std::vector<std::uint32_t> order_;            // bins
  std::vector<std::uint32_t> kinds_;            // the largest items first
  std::vector<std::vector<Size>> sizes_;        // [position][kind]
  std::vector<std::uint64_t> space_, weights_;  // by position: of this bin and all after it
  std::vector<std::vector<double>> least_;      // [position][kind]: ns of an item, there or later
  std::vector<std::uint64_t> stride_;           // by kind, of the keys of seen_; empty: no keys
  std::unordered_map<std::uint64_t, double> seen_;  // position and what is left -> least ns so far
  std::vector<std::pair<std::uint64_t, std::uint64_t>> classes_;  // of fillable()
  Counts left_;                // by kind: items that are in no bin yet
  std::vector<Counts> taken_;  // by position
  std::uint64_t reserve_ = 0;  // steps that fillings() may not take
  Packed* best_ = nullptr;
};

Fitting::Fitting(const Packing& packing, PackGoal goal, std::uint64_t buffer, std::uint64_t& steps)
    : packing_(packing), goal_(goal), buffer_(buffer), steps_(steps) {
  put_in_order();
  sum_up();
  std::uint64_t states = order_.size() + 1;
  for (const std::uint32_t count : left_) {
    stride_.push_back(states);
    if (states > UINT64_MAX / (count + 2ull)) {
      stride_.clear();
      break;
    }
    states *= count + 1ull;
  }
}

void Fitting::put_in_order() {
  const auto bins = static_cast<std::uint32_t>(packing_.bins.size());
  disks_ = std::any_of(packing_.bins.begin(), packing_.bins.end(),
                       [](const PackBin& bin) { return bin.disk; });
  const auto rank = [&](std::uint32_t b) {
    return packing_.bins[b].disk ? 2 : disks_ && b == packing_.runner ? 1 : 0;
  };
  order_.resize(bins);
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](auto a, auto b) { return rank(a) < rank(b); });
  kinds_.resize(packing_.kinds.size());
  std::iota(kinds_.begin(), kinds_.end(), 0);
  std::stable_sort(kinds_.begin(), kinds_.end(), [&](auto a, auto b) {
    return bytes_of(packing_.kinds[a]) > bytes_of(packing_.kinds[b]);
  });
}

void Fitting::sum_up() {
  const std::size_t bins = order_.size();
  for (const std::uint32_t k : kinds_) left_.push_back(packing_.kinds[k].count);
  taken_.assign(bins, Counts(kinds_.size(), 0));
  space_.assign(bins + 1, 0);
  weights_.assign(bins + 1, 0);
  sizes_.resize(bins);
  least_.assign(bins + 1, std::vector<double>(kinds_.size(), kInfinity));
  for (std::size_t at = bins; at-- > 0;) {
    const Room room = bare_room(at);
    space_[at] = space_[at + 1] + std::min(room.bytes, kUnlimited / 64);
    weights_[at] = weights_[at + 1] + std::min(room.weights, kUnlimited / 64);
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      sizes_[at].push_back(size_of(at, kinds_[k]));
      const Size& size = sizes_[at].back();
      const double here = room.most(size, 1) > 0 ? size.time : kInfinity;
      least_[at][k] = std::min(least_[at + 1][k], here);
    }
  }
}

Size Fitting::size_of(std::size_t at, std::uint32_t kind) const {
  const PackKind& item = packing_.kinds[kind];
  const bool disk = packing_.bins[order_[at]].disk;
  Size size;
  size.weights = item.weights;
  size.bytes = item.weights + item.stays;
  size.time = item.time[order_[at]];
  size.allowed = !disk || item.buffer <= buffer_;
  if (!disk && !is_shared(at)) {
    size.bytes += item.runs;
    size.activation = item.activation;
  }
  return size;
}

Room Fitting::bare_room(std::size_t at) const {
  const PackBin& bin = packing_.bins[order_[at]];
  return {less(bin.space, bin.held), less(bin.weight_space, bin.held_weights), bin.activation,
          packing_.most_time - bin.time};
}

Room Fitting::room(std::size_t at) const {
  Room room = bare_room(at);
  if (!is_shared(at)) return room;
  std::uint64_t taken = 2 * less(buffer_, packing_.buffer);
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    if (left_[k] == 0) continue;
    taken += left_[k] * packing_.kinds[kinds_[k]].runs;
    room.activation = std::max(room.activation, packing_.kinds[kinds_[k]].activation);
  }
  if (taken > room.bytes) room.bytes = room.activation = 0, room.weights = 0, room.time = -1;
  room.bytes = less(room.bytes, taken);
  return room;
}

// Adds to `out` all maximal fillings that continue `so_far`, which says of the kinds before `kind`
// how many are taken.
void Fitting::fill(std::size_t at, std::size_t kind, const Room& room, Filling& so_far,
                   std::vector<Filling>& out) {
  spend(1);
  if (steps_ <= reserve_) return;
  if (kind == kinds_.size()) {
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (so_far.take[k] < left_[k] && room.most(sizes_[at][k], 1) > 0) return;
    }
    out.push_back(so_far);
    return;
  }
  const Size& size = sizes_[at][kind];
  const std::uint32_t most = left_[kind] == 0 ? 0 : room.most(size, left_[kind]);
  const bool forced = least_[at + 1][kind] == kInfinity;  // it fits nowhere later
  const std::uint32_t fewest = forced ? left_[kind] : kind + 1 == kinds_.size() ? most : 0;
  for (std::uint32_t count = most + 1; count-- > fewest;) {
    Room rest = room;
    rest.take(size, count);
    so_far.take[kind] = count;
    fill(at, kind + 1, rest, so_far, out);
  }
  so_far.take[kind] = 0;
}

std::vector<Filling> Fitting::fillings(std::size_t at) {
  std::vector<Filling> out;
  const Room empty = room(at);
  if (empty.activation > empty.bytes || empty.time < 0) return out;
  Filling none;
  none.take.assign(kinds_.size(), 0);
  // Where there are very many, some steps are kept for the bins to come.
  reserve_ = steps_ - steps_ / (2 * (order_.size() - at));
  fill(at, 0, empty, none, out);
  if (steps_ <= reserve_) best_->complete = false;
  for (Filling& filling : out) {
    double alone = 0;  // cores without experts
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (filling.take[k] == 0) continue;
      const double count = filling.take[k];
      filling.bytes += filling.take[k] * sizes_[at][k].bytes;
      filling.time += count * sizes_[at][k].time;
      alone += count * packing_.kinds[kinds_[k]].half;
      filling.homes = filling.homes || packing_.kinds[kinds_[k]].half >= 0;
      if (least_[at + 1][k] < kInfinity) {
        filling.gain += count * (least_[at + 1][k] - sizes_[at][k].time);
      }
    }
    filling.time += std::max(0.0, alone) * packing_.apart;
    filling.gain -= std::max(0.0, alone) * packing_.apart;
  }
  std::stable_sort(out.begin(), out.end(), [&](const Filling& a, const Filling& b) {
    if (goal_ == PackGoal::kLeastTime && a.gain != b.gain) return a.gain > b.gain;
    return a.bytes > b.bytes;
  });
  return out;
}

// The most bytes that what is left can fill of the bin `at` and those after it. A bin that takes
// any item of a large activation has that much less for all of them; one that takes none holds no
// more than the items of smaller ones.
Fitting::Fill Fitting::fillable(std::size_t at) {
  classes_.clear();  // activation, and bytes of the items that have it
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    if (left_[k] == 0) continue;
    const PackKind& kind = packing_.kinds[kinds_[k]];
    const auto known = std::find_if(classes_.begin(), classes_.end(),
                                    [&](auto& one) { return one.first == kind.activation; });
    const std::uint64_t bytes = left_[k] * bytes_of(kind);
    if (known == classes_.end()) {
      classes_.emplace_back(kind.activation, bytes);
    } else {
      known->second += bytes;
    }
  }
  std::sort(classes_.begin(), classes_.end());
  Fill sum;
  for (std::size_t b = at; b < order_.size(); ++b) {
    const Room room = bare_room(b);
    if (packing_.bins[order_[b]].disk) {
      sum.all += std::min(room.bytes, kUnlimited / 64);
      continue;
    }
    std::uint64_t most = 0;
    std::uint64_t bytes = 0;
    for (const auto& [activation, more] : classes_) {
      const std::uint64_t workspace = std::max(activation, room.activation);
      bytes += more;
      most = std::max(most, std::min(bytes, less(room.bytes, workspace)));
    }
    if (is_shared(b)) {  // what it does not hold runs on it
      const std::uint64_t largest = std::max(classes_.back().first, room.activation);
      most = less(room.bytes, largest + 2 * less(buffer_, packing_.buffer));
    }
    sum.all += most;
    sum.off_disk += most;
  }
  return sum;
}

// Whether what is left cannot stand on this bin and those after it, or only at no less time than an
// answer that is known.
bool Fitting::is_hopeless(std::size_t at, double time) {
  std::uint64_t bytes = 0;
  std::uint64_t weights = 0;
  std::uint64_t off_disk = 0;
  const bool on_disk = packing_.bins[order_[at]].disk;  // those come last, and items run elsewhere
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    if (left_[k] == 0) continue;
    if (least_[at][k] == kInfinity) return true;
    const PackKind& kind = packing_.kinds[kinds_[k]];
    bytes += left_[k] * (on_disk ? kind.weights + kind.stays : bytes_of(kind));
    weights += left_[k] * kind.weights;
    off_disk += left_[k] * (kind.buffer <= buffer_ ? kind.runs : bytes_of(kind));
    time += left_[k] * least_[at][k];
  }
  if (weights > weights_[at] || time >= packing_.most_total) return true;
  if (best_->found() && time >= best_->time * kNearly) return true;
  if (bytes > space_[at]) return true;
  const Fill fill = fillable(at);
  return bytes > fill.all || (disks_ && !on_disk && off_disk > fill.off_disk);
}

// Whether the search was here before, with the same items left and no more time spent.
bool Fitting::was_seen(std::size_t at, double time) {
  if (stride_.empty()) return false;
  std::uint64_t key = at;
  for (std::size_t k = 0; k < kinds_.size(); ++k) key += stride_[k] * left_[k];
  const auto [known, fresh] = seen_.emplace(key, time);
  if (fresh) return false;
  if (goal_ == PackGoal::kAny || known->second <= time) return true;
  known->second = time;
  return false;
}

void Fitting::visit(std::size_t at, double time) {
  spend(kinds_.size());
  if (stop()) return;
  if (std::all_of(left_.begin(), left_.end(), [](auto count) { return count == 0; })) {
    return keep(time);
  }
  if (at == order_.size() || is_hopeless(at, time) || was_seen(at, time)) return;
  const bool first = time == 0;
  for (const Filling& filling : fillings(at)) {
    for (std::size_t k = 0; k < kinds_.size(); ++k) left_[k] -= filling.take[k];
    taken_[at] = filling.take;
    visit(at + 1, time + filling.time + (first || !filling.homes ? 0 : packing_.hop));
    for (std::size_t k = 0; k < kinds_.size(); ++k) left_[k] += filling.take[k];
  }
  std::fill(taken_[at].begin(), taken_[at].end(), 0);
}

void Fitting::keep(double time) {
  const bool known = best_->found();
  if (time >= packing_.most_total || (known && time >= best_->time * kNearly)) return;
  std::vector<Counts> counts(packing_.bins.size(), Counts(kinds_.size(), 0));
  for (std::size_t at = 0; at < order_.size(); ++at) {
    for (std::size_t k = 0; k < kinds_.size(); ++k) counts[order_[at]][kinds_[k]] = taken_[at][k];
  }
  if (!known || time < best_->time) {
    best_->time = time;
    std::swap(best_->counts, counts);
  }
  if (!known) return;
  if (best_->others.size() == kMostOthers) best_->others.erase(best_->others.begin());
  best_->others.push_back(std::move(counts));
}

void Fitting::run(Packed& best) {
  best_ = &best;
  visit(0, 0);
  if (steps_ == 0) best.complete = false;
}

}  // namespace

Packed pack(const Packing& packing, PackGoal goal, std::uint64_t& steps) {
  Packed best;
  std::vector<std::uint64_t> buffers{0};
  const bool disks = std::any_of(packing.bins.begin(), packing.bins.end(),
                                 [](const PackBin& bin) { return bin.disk; });
  for (const PackKind& kind : packing.kinds) buffers.push_back(disks ? kind.buffer : 0);
  std::sort(buffers.begin(), buffers.end());
  buffers.erase(std::unique(buffers.begin(), buffers.end()), buffers.end());
  for (const PackBin& bin : packing.bins) {  // nothing helps a bin that is too full already
    const bool used = bin.held > 0 || bin.activation > 0;
    if (used && (bin.held + bin.activation > bin.space || bin.held_weights > bin.weight_space)) {
      return best;
    }
  }
  for (const PackGoal now : {PackGoal::kAny, PackGoal::kLeastTime}) {
    if (now == PackGoal::kLeastTime && (goal == PackGoal::kAny || !best.found())) break;
    for (const std::uint64_t buffer : buffers) {
      if (now == PackGoal::kAny && best.found()) break;
      Fitting(packing, now, buffer, steps).run(best);
    }
  }
  return best;
}

}  // namespace berth

#include "planner/search/items.h"

#include <algorithm>
#include <utility>

#include "planner/search/tiers.h"

namespace berth {
namespace {

// More ways than this to share copies of tied units are not tried: a group of four has 15.
constexpr std::size_t kMostWays = 24;

bool holds(const std::vector<std::uint32_t>& units, std::uint32_t unit) {
  return std::find(units.begin(), units.end(), unit) != units.end();
}

// All partitions of `units` into groups, the one with a single group first.
std::vector<Together> partitions(const std::vector<std::uint32_t>& units) {
  std::vector<Together> out{{}};
  for (const std::uint32_t unit : units) {
    std::vector<Together> longer;
    for (const Together& known : out) {
      for (std::size_t g = 0; g <= known.size(); ++g) {
        Together next = known;
        if (g == known.size()) next.emplace_back();
        next[g].push_back(unit);
        longer.push_back(std::move(next));
      }
    }
    out = std::move(longer);
  }
  return out;
}

class ItemMaker {
 public:
  ItemMaker(const PlanInputs& inputs, const Judge& judge, const std::vector<std::uint32_t>& bins)
      : inputs_(inputs), judge_(judge), bins_(bins) {}

  void add(std::vector<std::uint32_t> units, ItemPart part) {
    Item item{std::move(units), part, 0};
    item.kind = kind_of(item);
    out_.items.push_back(std::move(item));
  }
  Items take() { return std::move(out_); }

 private:
  std::uint32_t kind_of(const Item& item) {
    PackKind kind;
    kind.count = 1;
    kind.half = item.part == ItemPart::kCore ? 1 : item.part == ItemPart::kExperts ? -1 : 0;
    kind.time.assign(bins_.size(), 0);
    for (const std::uint32_t u : item.units) add_unit(item, u, kind);
    for (std::uint32_t k = 0; k < out_.kinds.size() && item.units.size() == 1; ++k) {
      kind.count = out_.kinds[k].count;
      if (several_[k] || out_.kinds[k] != kind) continue;
      ++out_.kinds[k].count;
      return k;
    }
    kind.count = 1;
    out_.kinds.push_back(std::move(kind));
    several_.push_back(item.units.size() > 1);
    return static_cast<std::uint32_t>(out_.kinds.size() - 1);
  }

  void add_unit(const Item& item, std::uint32_t u, PackKind& kind) const {
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    const bool core = item.part != ItemPart::kExperts;
    const bool experts = item.part != ItemPart::kCore;
    if (core) {
      kind.weights += free.core + copied(item.units, u);
      kind.stays += free.computed;
      kind.runs += unit.kv_bytes + unit.logits;
    }
    if (experts) kind.weights += free.experts;
    kind.activation = std::max(kind.activation, unit.activation);
    kind.buffer = std::max(kind.buffer, buffer(u, core, experts));
    for (std::size_t b = 0; b < bins_.size(); ++b) {
      kind.time[b] += nanoseconds(inputs_.time.score(seconds(u, item.part, bins_[b])));
    }
  }

  Seconds seconds(std::uint32_t u, ItemPart part, std::uint32_t device) const {
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    if (part == ItemPart::kWhole) return judge_.seconds(u, device, device);
    return inputs_.time.piece(unit, device,
                              part == ItemPart::kCore ? free.core_share : free.experts_share);
  }

  // The bytes of a copy that the unit brings where no earlier unit of its group is with it.
  std::uint64_t copied(const std::vector<std::uint32_t>& item, std::uint32_t u) const {
    for (const auto* groups : {&inputs_.chain.tied, &inputs_.chain.joined}) {
      for (const auto& group : *groups) {
        if (!holds(group, u)) continue;
        for (const std::uint32_t other : group) {
          if (other == u) break;
          if (holds(item, other)) return 0;
        }
        return group[0] == u ? 0 : inputs_.chain.units[u].tied;
      }
    }
    return 0;
  }

  // As Judge::usage() has it. If part of the unit is taken away or tied, both of its pieces count
  // as if all of it were read.
  std::uint64_t buffer(std::uint32_t u, bool core, bool experts) const {
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    const bool simple = free.loose.empty() && unit.tied == 0;
    std::uint64_t dense = core || !simple ? free.core + unit.tied : 0;
    if (free.experts > 0) dense += unit.tied;
    for (const Freedom::Loose& loose : free.loose) {
      if (inputs_.time.runs_on(loose.device) != loose.device) dense += loose.weights + unit.tied;
    }
    return buffer_bytes(unit, dense, experts || !simple ? free.experts : 0);
  }

  const PlanInputs& inputs_;
  const Judge& judge_;
  const std::vector<std::uint32_t>& bins_;
  Items out_;
  std::vector<bool> several_;  // by kind: its item has several units
};

}  // namespace

std::vector<std::uint32_t> settled_homes(const PlanInputs& inputs, const Judge& judge) {
  std::vector<std::uint32_t> homes;
  for (std::uint32_t u = 0; u < inputs.chain.units.size(); ++u) {
    homes.push_back(judge.freedom(u).fixed);
  }
  for (const auto& group : inputs.chain.joined) {
    const auto fixed =
        std::find_if(group.begin(), group.end(), [&](auto u) { return homes[u] != kNone; });
    if (fixed == group.end()) continue;
    for (const std::uint32_t u : group) {
      if (homes[u] == kNone) homes[u] = homes[*fixed];
    }
  }
  return homes;
}

std::vector<Together> ways_to_share(const PlanInputs& inputs,
                                    const std::vector<std::uint32_t>& settled, bool& all) {
  std::vector<Together> ways{{}};
  for (const auto& group : inputs.chain.tied) {
    std::vector<std::uint32_t> free;
    for (const std::uint32_t u : group) {
      if (settled[u] == kNone) free.push_back(u);
    }
    if (free.size() < 2) continue;
    std::vector<Together> own;
    if (free.size() > 4 || ways.size() * (free.size() > 3 ? 15 : 5) > kMostWays) {
      all = false;
      own = {{free}, {}};
    } else {
      own = partitions(free);
    }
    std::vector<Together> longer;
    for (const Together& known : ways) {
      for (const Together& more : own) {
        longer.push_back(known);
        longer.back().insert(longer.back().end(), more.begin(), more.end());
      }
    }
    ways = std::move(longer);
  }
  return ways;
}

Items make_items(const PlanInputs& inputs, const Judge& judge, const Together& together,
                 const std::vector<std::uint32_t>& settled, const std::vector<std::uint32_t>& bins,
                 bool pieces) {
  ItemMaker maker(inputs, judge, bins);
  std::vector<bool> done;
  for (std::uint32_t u = 0; u < settled.size(); ++u) {
    done.push_back(settled[u] != kNone || inputs.chain.units[u].tensors.empty());
  }
  const auto add_group = [&](const std::vector<std::uint32_t>& group) {
    std::vector<std::uint32_t> units;
    for (const std::uint32_t u : group) {
      if (!done[u]) units.push_back(u);
      done[u] = true;
    }
    if (!units.empty()) maker.add(std::move(units), ItemPart::kWhole);
  };
  for (const auto& group : inputs.chain.joined) add_group(group);
  for (const auto& group : together) add_group(group);
  for (std::uint32_t u = 0; u < done.size(); ++u) {
    const Freedom& free = judge.freedom(u);
    if (done[u]) continue;
    if (pieces && free.experts > 0) {
      maker.add({u}, ItemPart::kCore);
      maker.add({u}, ItemPart::kExperts);
    } else {
      maker.add({u}, ItemPart::kWhole);
    }
  }
  return maker.take();
}

}  // namespace berth

#include "planner/search/pipeline_bound.h"

#include <algorithm>
#include <map>
#include <utility>

#include "planner/search/pipeline_problem.h"

namespace berth {
namespace {

using pipeline::kInfinity;

using Sizes = std::map<std::uint64_t, std::uint64_t>;  // bytes of a unit -> how many there are

// The most bytes of `space` that a set of units can fill; bytes beyond that are worth nothing to a
// placement. Exact if most units share one size and a few have others; else `space` itself.
double fillable(const Sizes& sizes, std::uint64_t space) {
  std::uint64_t common = 0;
  std::uint64_t most = 0;
  std::uint64_t tries = 1;
  for (const auto& [size, count] : sizes) {
    if (count > most) {
      most = count;
      common = size;
    }
  }
  std::vector<std::uint64_t> sums{0};
  for (const auto& [size, count] : sizes) {
    if (size == common) continue;
    tries *= count + 1;
    if (tries > 4096) return static_cast<double>(space);
    const std::size_t before = sums.size();
    for (std::uint64_t k = 1; k <= count; ++k) {
      for (std::size_t i = 0; i < before; ++i) sums.push_back(sums[i] + k * size);
    }
  }
  std::uint64_t best = 0;
  for (const std::uint64_t sum : sums) {
    if (sum > space) continue;
    const std::uint64_t more = common == 0 ? 0 : std::min(most, (space - sum) / common);
    best = std::max(best, sum + more * common);
  }
  return static_cast<double>(best);
}

// The same for units that also need workspace, of which the largest on the device counts: the best
// over all units that may be that largest one.
double usable_space(const Pipeline& pipeline, std::uint64_t space) {
  std::map<std::uint64_t, Sizes> by_workspace;
  for (const PipelineUnit& unit : pipeline.units) {
    const std::uint64_t experts = pipeline.aside.empty() ? 0 : unit.experts;
    ++by_workspace[unit.workspace][unit.resident - experts];
    if (experts > 0) ++by_workspace[unit.workspace][experts];
  }
  Sizes so_far;
  double best = 0;
  for (const auto& [workspace, sizes] : by_workspace) {
    for (const auto& [size, count] : sizes) so_far[size] += count;
    if (workspace <= space) best = std::max(best, fillable(so_far, space - workspace));
  }
  return best;
}

// Units with the same choices. A chain has many of these, so each kind is worked out once.
struct Alike {
  std::uint32_t unit = 0;  // the first of them
  double count = 0;
};

std::vector<Alike> alike_units(const Choices& choices) {
  const auto same = [](const Choice& a, const Choice& b) {
    return a.time == b.time && a.home == b.home && a.side == b.side &&
           a.home_bytes == b.home_bytes && a.side_bytes == b.side_bytes;
  };
  // How far back to look for an equal unit, so that a chain whose units all differ stays quick.
  constexpr std::size_t kMostKinds = 64;
  std::vector<Alike> out;
  for (std::uint32_t u = 0; u < choices.units.size(); ++u) {
    const std::size_t first = out.size() > kMostKinds ? out.size() - kMostKinds : 0;
    std::size_t at = out.size();
    while (at > first &&
           !std::ranges::equal(choices.units[out[at - 1].unit], choices.units[u], same)) {
      --at;
    }
    if (at > first) {
      ++out[at - 1].count;
    } else {
      out.push_back({u, 1});
    }
  }
  return out;
}

// The prices of all devices, and the bound that they give.
class Prices {
 public:
  Prices(const Choices& choices, std::vector<double> space)
      : choices_(choices),
        space_(std::move(space)),
        price_(space_.size(), 0),
        bytes_(space_.size(), 0),
        alike_(alike_units(choices)) {}

  // Improves the prices step by step; returns the best bound on the way.
  double climb(double upper);
  // Two ways to choose the prices to start from.
  void start_from(const std::vector<std::uint32_t>& known);
  void start_uniform();

 private:
  // Lets every unit make its cheapest choice at the present prices. Returns what they cost
  // together; `bytes_` is then what they put on each device.
  double answer();

  const Choices& choices_;
  std::vector<double> space_;
  std::vector<double> price_;  // ns a byte
  std::vector<double> bytes_;
  std::vector<Alike> alike_;
};

double Prices::answer() {
  std::fill(bytes_.begin(), bytes_.end(), 0.0);
  double value = 0;
  for (const Alike& alike : alike_) {
    double least = kInfinity;
    const Choice* taken = nullptr;
    for (const Choice& choice : choices_.units[alike.unit]) {
      const double cost = choice.time + price_[choice.home] * choice.home_bytes +
                          price_[choice.side] * choice.side_bytes;
      if (cost >= least) continue;
      least = cost;
      taken = &choice;
    }
    if (taken == nullptr) continue;
    value += alike.count * least;
    bytes_[taken->home] += alike.count * taken->home_bytes;
    bytes_[taken->side] += alike.count * taken->side_bytes;
  }
  return value;
}

// Subgradient ascent with steps of Polyak's length, which are halved whenever twelve rounds bring
// no gain.
double Prices::climb(double upper) {
  double best = 0;
  double damping = 1;
  int idle = 0;
  for (int round = 0; round < 300 && best < upper; ++round) {
    double value = answer();
    double norm = 0;
    for (std::size_t d = 0; d < space_.size(); ++d) {
      value -= price_[d] * space_[d];
      const double slope = bytes_[d] - space_[d];
      if (price_[d] > 0 || slope > 0) norm += slope * slope;
    }
    if (value > best) {
      best = value;
      idle = 0;
    } else if (++idle % 12 == 0) {
      damping /= 2;
    }
    if (norm == 0) break;
    const double step = damping * (upper - value) / norm;
    for (std::size_t d = 0; d < space_.size(); ++d) {
      price_[d] = std::max(0.0, price_[d] + step * (bytes_[d] - space_[d]));
    }
  }
  return best;
}

// Starts from the prices that are right for a chain that could be cut at any byte. It fills the
// devices in order of their time a byte, and the price of a byte on a device is the time that it
// saves against the last device that is used.
void Prices::start_uniform() {
  const std::size_t devices = space_.size();
  std::vector<double> rate(devices, 0);
  std::vector<bool> open(devices, false);
  double bytes = 0;
  for (const auto& unit : choices_.units) {
    double own = 0;
    for (const Choice& choice : unit) {
      if (choice.side_bytes > 0) continue;
      rate[choice.home] += choice.time;
      open[choice.home] = true;
      own = std::max(own, choice.home_bytes);
    }
    bytes += own;
  }
  std::fill(price_.begin(), price_.end(), 0.0);
  if (bytes <= 0) return;
  std::vector<std::size_t> order;
  for (std::size_t d = 0; d < devices; ++d) {
    rate[d] /= bytes;
    if (open[d]) order.push_back(d);
  }
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return rate[a] < rate[b]; });
  for (const std::size_t marginal : order) {
    bytes -= space_[marginal];
    if (bytes > 0) continue;
    for (const std::size_t d : order) price_[d] = std::max(0.0, rate[marginal] - rate[d]);
    return;
  }
}

// Starts from the prices that fit a good placement. A byte of a device is worth no more than it
// costs to move a unit from there to another device, that device's price included. A device that
// still has space for another unit asks nothing. From these devices the prices spread as shortest
// paths do (Bellman-Ford).
void Prices::start_from(const std::vector<std::uint32_t>& known) {
  const std::size_t devices = space_.size();
  std::vector<double> cost(devices * devices, kInfinity);  // ns a byte, from one to another
  std::vector<double> used(devices, 0);
  for (std::size_t u = 0; u < known.size(); ++u) {
    const Choice& at = choices_.units[u][known[u]];
    used[at.home] += at.home_bytes;
    used[at.side] += at.side_bytes;
    for (const Choice& other : choices_.units[u]) {
      std::uint32_t from = at.home;
      std::uint32_t to = other.home;
      double moved = at.home_bytes;
      if (other.home == at.home) {  // only the experts move
        from = at.side_bytes > 0 ? at.side : at.home;
        to = other.side_bytes > 0 ? other.side : other.home;
        moved = std::max(at.side_bytes, other.side_bytes);
      } else if (at.side_bytes > 0 || other.side_bytes > 0) {
        continue;
      }
      if (from == to || moved <= 0) continue;
      double& least = cost[from * devices + to];
      least = std::min(least, (other.time - at.time) / moved);
    }
  }
  double smallest = kInfinity;
  for (const auto& unit : choices_.units) {
    for (const Choice& choice : unit) {
      if (choice.home_bytes > 0) smallest = std::min(smallest, choice.home_bytes);
    }
  }
  std::fill(price_.begin(), price_.end(), kInfinity);
  for (std::size_t d = 0; d < devices; ++d) {
    if (used[d] == 0 || space_[d] - used[d] > smallest) price_[d] = 0;
  }
  for (std::size_t round = 0; round < devices; ++round) {
    for (std::size_t from = 0; from < devices; ++from) {
      for (std::size_t to = 0; to < devices; ++to) {
        const double by_way = price_[to] + cost[from * devices + to];
        price_[from] = std::min(price_[from], std::max(0.0, by_way));
      }
    }
  }
  for (double& price : price_) price = price < kInfinity ? price : 0;
}

}  // namespace

double price_bound(const Choices& choices, double upper, const std::vector<std::uint32_t>& known) {
  Prices prices(choices, choices.space);
  prices.start_uniform();
  double best = prices.climb(upper - choices.hops);
  if (!known.empty() && best + choices.hops < upper) {
    prices.start_from(known);
    best = std::max(best, prices.climb(upper - choices.hops));
  }
  return best + choices.hops;
}

std::vector<double> bound_spaces(const Pipeline& pipeline) {
  std::vector<double> space;
  for (const PipelineDevice& device : pipeline.devices) {
    space.push_back(counts_weights(device) ? static_cast<double>(device.weight_space)
                                           : usable_space(pipeline, device.space));
  }
  return space;
}

double hop_bound(const Pipeline& pipeline) {
  double total = 0;
  for (const PipelineUnit& unit : pipeline.units) {
    total += static_cast<double>(unit.weights - (pipeline.aside.empty() ? 0 : unit.experts));
  }
  std::vector<double> spaces;
  for (const PipelineDevice& device : pipeline.devices) {
    spaces.push_back(static_cast<double>(std::min(device.space, device.weight_space)));
  }
  std::sort(spaces.rbegin(), spaces.rend());
  double hops = -1;
  for (std::size_t i = 0; i < spaces.size() && total > 0; ++i, ++hops) total -= spaces[i];
  double least = kInfinity;
  for (std::size_t i = 0; i < pipeline.hop.size(); ++i) {
    if (i / spaces.size() != i % spaces.size()) least = std::min(least, pipeline.hop[i]);
  }
  return hops > 0 && least < kInfinity ? hops * least : 0;
}

double latency_bound(const Pipeline& pipeline, double upper) {
  Choices choices;
  choices.space = bound_spaces(pipeline);
  choices.hops = hop_bound(pipeline);
  for (std::size_t u = 0; u < pipeline.units.size(); ++u) {
    const PipelineUnit& unit = pipeline.units[u];
    auto& options = choices.units.emplace_back();
    for (std::uint32_t d = 0; d < pipeline.devices.size(); ++d) {
      if (unit.fixed != kNone ? unit.fixed != d : !pipeline.devices[d].open) continue;
      const bool weights = counts_weights(pipeline.devices[d]);
      const auto all = static_cast<double>(weights ? unit.weights : unit.resident);
      const double time = pipeline.unit_time(u, d);
      options.push_back({time, d, d, all, 0});
      const double aside = pipeline.aside_time(u, d);
      if (unit.experts == 0 || aside == kInfinity) continue;
      const auto experts = static_cast<double>(unit.experts);
      for (const std::uint32_t side : pipeline.aside_devices) {
        options.push_back({time + aside, d, side, all - experts, experts});
      }
    }
  }
  return price_bound(choices, upper, {});
}

}  // namespace berth

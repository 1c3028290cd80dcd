// The lower bound behind optimality_gap. With a price per byte on every device, each unit picks its
// cheapest device by itself; whatever the prices, the sum less the price of all room is a bound.
#include <algorithm>
#include <map>

#include "planner/placement/pipeline.h"
#include "planner/placement/pipeline_problem.h"

namespace berth {
namespace {

using pipeline::kInfinity;

using Sizes = std::map<std::uint64_t, std::uint64_t>;  // bytes of a unit -> how many there are

// The most bytes that units can fill of `room`: room that no set of units can fill is worth
// nothing. Exact for chains of one common size and a few others; else `room` itself.
double fillable(const Sizes& sizes, std::uint64_t room) {
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
    if (tries > 4096) return static_cast<double>(room);
    const std::size_t before = sums.size();
    for (std::uint64_t k = 1; k <= count; ++k) {
      for (std::size_t i = 0; i < before; ++i) sums.push_back(sums[i] + k * size);
    }
  }
  std::uint64_t best = 0;
  for (const std::uint64_t sum : sums) {
    if (sum > room) continue;
    const std::uint64_t more = common == 0 ? 0 : std::min(most, (room - sum) / common);
    best = std::max(best, sum + more * common);
  }
  return static_cast<double>(best);
}

// The same beside the workspace that the units need: whichever of them is the hungriest.
double usable_room(const Pipeline& pipeline, std::uint64_t room) {
  std::map<std::uint64_t, Sizes> by_workspace;
  for (const PipelineUnit& unit : pipeline.units) {
    const std::uint64_t part = pipeline.aside.empty() ? 0 : unit.part;
    ++by_workspace[unit.workspace][unit.resident - part];
    if (part > 0) ++by_workspace[unit.workspace][part];
  }
  Sizes so_far;
  double best = 0;
  for (const auto& [workspace, sizes] : by_workspace) {
    for (const auto& [size, count] : sizes) so_far[size] += count;
    if (workspace <= room) best = std::max(best, fillable(so_far, room - workspace));
  }
  return best;
}

double hop_bound(const Pipeline& pipeline, double total) {
  std::vector<double> rooms;
  for (const PipelineDevice& device : pipeline.devices) {
    rooms.push_back(static_cast<double>(device.room));
  }
  std::sort(rooms.rbegin(), rooms.rend());
  double hops = -1;
  for (std::size_t i = 0; i < rooms.size() && total > 0; ++i, ++hops) total -= rooms[i];
  double least = kInfinity;
  for (std::size_t i = 0; i < pipeline.hop.size(); ++i) {
    if (i / rooms.size() != i % rooms.size()) least = std::min(least, pipeline.hop[i]);
  }
  return hops > 0 && least < kInfinity ? hops * least : 0;
}

// The prices of one round, and what every unit answers to them.
class Round {
 public:
  explicit Round(const Pipeline& pipeline)
      : pipeline_(pipeline), price(pipeline.devices.size(), 0), bytes(price.size(), 0) {}

  // The cheapest way for every unit by itself; `bytes` is what that puts on each device.
  double answer() {
    std::fill(bytes.begin(), bytes.end(), 0.0);
    std::uint32_t side = kNone;
    for (const std::uint32_t d : pipeline_.aside_devices) {
      if (side == kNone || price[d] < price[side]) side = d;
    }
    double value = 0;
    for (std::size_t u = 0; u < pipeline_.units.size(); ++u) value += place(u, side);
    return value;
  }

 private:
  double place(std::size_t u, std::uint32_t side) {
    const PipelineUnit& unit = pipeline_.units[u];
    const auto all = static_cast<double>(unit.resident);
    const auto part = static_cast<double>(unit.part);
    double least = kInfinity;
    std::size_t at = 0;
    bool aside = false;
    for (std::size_t d = 0; d < price.size(); ++d) {
      if (unit.fixed != kNone ? unit.fixed != d : !pipeline_.devices[d].open) continue;
      const double whole = pipeline_.unit_time(u, d) + price[d] * all;
      if (whole < least) {
        least = whole;
        at = d;
        aside = false;
      }
      if (unit.part == 0 || side == kNone) continue;
      const double parted = pipeline_.unit_time(u, d) + pipeline_.aside_time(u, d) +
                            price[d] * (all - part) + price[side] * part;
      if (parted < least) {
        least = parted;
        at = d;
        aside = true;
      }
    }
    bytes[at] += aside ? all - part : all;
    if (aside) bytes[side] += part;
    return least;
  }

  const Pipeline& pipeline_;

 public:
  std::vector<double> price;  // ns a byte
  std::vector<double> bytes;
};

// Prices to begin with: what would be right for a chain that could be cut anywhere. Devices fill up
// in order of their time a byte; a byte on a quicker one is worth what the last one to be used, the
// marginal one, takes longer for it.
std::vector<double> first_prices(const Pipeline& pipeline, const std::vector<double>& room) {
  const std::size_t devices = pipeline.devices.size();
  double bytes = 0;
  std::vector<double> rate(devices, 0);
  for (std::size_t u = 0; u < pipeline.units.size(); ++u) {
    bytes += static_cast<double>(pipeline.units[u].resident);
    for (std::size_t d = 0; d < devices; ++d) rate[d] += pipeline.unit_time(u, d);
  }
  std::vector<double> price(devices, 0);
  if (bytes <= 0) return price;
  std::vector<std::size_t> order;
  for (std::size_t d = 0; d < devices; ++d) {
    rate[d] /= bytes;
    if (pipeline.devices[d].open) order.push_back(d);
  }
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return rate[a] < rate[b]; });
  double left = bytes;
  for (const std::size_t marginal : order) {
    left -= room[marginal];
    if (left > 0) continue;
    for (const std::size_t d : order) price[d] = std::max(0.0, rate[marginal] - rate[d]);
    break;
  }
  return price;
}

}  // namespace

double latency_bound(const Pipeline& pipeline, double upper) {
  const std::size_t devices = pipeline.devices.size();
  double total = 0;
  for (const PipelineUnit& unit : pipeline.units) {
    total += static_cast<double>(unit.resident - (pipeline.aside.empty() ? 0 : unit.part));
  }
  std::vector<double> room;
  for (const PipelineDevice& device : pipeline.devices) {
    room.push_back(usable_room(pipeline, device.room));
  }
  const double hops = hop_bound(pipeline, total);

  Round round(pipeline);
  round.price = first_prices(pipeline, room);
  double best = 0;
  double damping = 1;
  int idle = 0;  // rounds without progress
  for (int i = 0; i < 400 && best + hops < upper; ++i) {
    double value = round.answer();
    double norm = 0;
    for (std::size_t d = 0; d < devices; ++d) value -= round.price[d] * room[d];
    for (std::size_t d = 0; d < devices; ++d) {
      const double slope = round.bytes[d] - room[d];
      if (round.price[d] > 0 || slope > 0) norm += slope * slope;
    }
    if (value > best) {
      best = value;
      idle = 0;
    } else if (++idle % 12 == 0) {
      damping /= 2;
    }
    if (norm == 0) break;
    const double step = damping * (upper - hops - value) / norm;
    for (std::size_t d = 0; d < devices; ++d) {
      round.price[d] = std::max(0.0, round.price[d] + step * (round.bytes[d] - room[d]));
    }
  }
  return best + hops;
}

}  // namespace berth

#include "planner/search/pipeline_problem.h"

#include <algorithm>

namespace berth::pipeline {

Problem::Problem(const Pipeline& given)
    : pipeline(given),
      devices(given.devices.size()),
      fixed_weights(devices, 0),
      fixed_resident(devices, 0),
      fixed_workspace(devices, 0),
      fixed_time(devices, 0) {
  between.emplace_back();
  for (std::uint32_t u = 0; u < given.units.size(); ++u) {
    const PipelineUnit& unit = given.units[u];
    if (unit.fixed == kNone) {
      movable.push_back(u);
      between.emplace_back();
      continue;
    }
    between.back().push_back(unit.fixed);
    fixed_weights[unit.fixed] += unit.weights;
    fixed_resident[unit.fixed] += unit.resident;
    fixed_workspace[unit.fixed] = std::max(fixed_workspace[unit.fixed], unit.workspace);
    fixed_time[unit.fixed] += given.unit_time(u, unit.fixed);
    fixed_total += given.unit_time(u, unit.fixed);
  }
  for (std::uint32_t d = 0; d < devices; ++d) {
    const PipelineDevice& device = given.devices[d];
    if (fixed_resident[d] == 0 && fixed_workspace[d] == 0) continue;
    if (fixed_resident[d] + fixed_workspace[d] > device.space ||
        fixed_weights[d] > device.weight_space) {
      fits_alone = false;
    }
  }
  for (std::uint32_t d = 0; d < devices; ++d) {
    if (!given.devices[d].open) continue;
    auto kind = std::find_if(kinds.begin(), kinds.end(),
                             [&](const auto& members) { return same_kind(members[0], d); });
    if (kind == kinds.end()) {
      kinds.push_back({d});
      fill_kind(d);
      fill_aside(d);
    } else {
      kind->push_back(d);
    }
  }
}

bool Problem::same_kind(std::uint32_t a, std::uint32_t b) const {
  const PipelineDevice& x = pipeline.devices[a];
  const PipelineDevice& y = pipeline.devices[b];
  if (x.space != y.space || x.weight_space != y.weight_space) return false;
  for (const Path& path : between) {
    for (std::uint32_t d : path) {
      if (d == a || d == b) return false;
    }
  }
  if (pipeline.hop_time(a, b) != pipeline.hop_time(b, a)) return false;
  for (std::uint32_t d = 0; d < devices; ++d) {
    if (d == a || d == b) continue;
    if (pipeline.hop_time(a, d) != pipeline.hop_time(b, d) ||
        pipeline.hop_time(d, a) != pipeline.hop_time(d, b)) {
      return false;
    }
  }
  for (std::uint32_t u : movable) {
    if (pipeline.unit_time(u, a) != pipeline.unit_time(u, b)) return false;
    if (pipeline.aside_time(u, a) != pipeline.aside_time(u, b)) return false;
  }
  return true;
}

double Problem::cross(std::size_t i, std::uint32_t a, std::uint32_t b) const {
  double cost = 0;
  std::uint32_t at = a;
  const auto go = [&](std::uint32_t to) {
    if (at != kNone && to != kNone) cost += pipeline.hop_time(at, to);
    at = to;
  };
  for (std::uint32_t d : between[i]) go(d);
  go(b);
  return cost;
}

void Problem::fill_kind(std::uint32_t device) {
  const std::size_t n = count();
  std::vector<double> sum(n + 1, 0);
  std::vector<double> detour(n + 1, 0);
  std::vector<std::uint32_t> earliest(n + 1, 0);
  const PipelineDevice& space = pipeline.devices[device];
  // A run counts as fitting if it does with all its experts aside; fill_aside() prices those.
  const auto experts = [&](std::uint32_t u) {
    return pipeline.aside_time(u, device) < kInfinity ? pipeline.units[u].experts : 0;
  };
  std::uint64_t weights = fixed_weights[device];
  std::uint64_t resident = fixed_resident[device];
  std::vector<std::uint32_t> widest;  // candidates for the largest workspace, largest first
  std::size_t head = 0;
  std::uint32_t start = 0;
  for (std::uint32_t end = 1; end <= n; ++end) {
    const std::uint32_t last = end - 1;
    const PipelineUnit& unit = pipeline.units[movable[last]];
    sum[end] = sum[last] + pipeline.unit_time(movable[last], device);
    detour[end] =
        detour[last] + (last > 0 && !between[last].empty() ? cross(last, device, device) : 0);
    weights += unit.weights - experts(movable[last]);
    resident += unit.resident - experts(movable[last]);
    const auto workspace = [&](std::uint32_t u) { return pipeline.units[movable[u]].workspace; };
    while (widest.size() > head && workspace(widest.back()) <= unit.workspace) widest.pop_back();
    widest.push_back(last);
    while (start < end) {
      const std::uint64_t work = std::max(fixed_workspace[device], workspace(widest[head]));
      if (resident + work <= space.space && weights <= space.weight_space) break;
      const PipelineUnit& gone = pipeline.units[movable[start]];
      weights -= gone.weights - experts(movable[start]);
      resident -= gone.resident - experts(movable[start]);
      if (widest[head] == start) ++head;
      ++start;
      if (start == end) break;
    }
    earliest[end] = start;
  }
  prefix.push_back(std::move(sum));
  through.push_back(std::move(detour));
  first.push_back(std::move(earliest));
}

std::uint64_t Problem::lacking(std::uint32_t device, std::uint64_t resident, std::uint64_t weights,
                               std::uint64_t workspace) const {
  const PipelineDevice& at = pipeline.devices[device];
  const std::uint64_t used = resident + workspace;
  const std::uint64_t lack = std::max(used > at.space ? used - at.space : 0,
                                      weights > at.weight_space ? weights - at.weight_space : 0);
  if (lack == 0) return 0;
  return std::max(
      lack, used + pipeline.aside_space > at.space ? used + pipeline.aside_space - at.space : 0);
}

void Problem::count_experts(std::vector<Sort>& sorts, std::uint32_t unit,
                            std::uint32_t device) const {
  const std::uint64_t bytes = pipeline.units[unit].experts;
  const double price = pipeline.aside_time(unit, device);
  if (bytes == 0 || price == kInfinity) return;
  for (Sort& sort : sorts) {
    if (sort.bytes != bytes || sort.price != price) continue;
    ++sort.count;
    return;
  }
  sorts.push_back({bytes, price, 1});
}

// The cheapest experts that have at least `bytes` together. With one or two sorts this is exact:
// every number of the first is tried with the fewest of the second that are then needed. With more
// sorts it is greedy().
Problem::Choice Problem::cheapest(const std::vector<Sort>& sorts, std::uint64_t bytes) {
  Choice best;
  if (sorts.empty()) return best;
  if (sorts.size() > 2) return greedy(sorts, bytes);
  for (std::uint32_t k = 0; k <= sorts[0].count; ++k) {
    const std::uint64_t taken = k * sorts[0].bytes;
    std::uint64_t more = 0;
    if (taken < bytes) {
      if (sorts.size() == 1) {
        k = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(sorts[0].count, (bytes - 1) / sorts[0].bytes));
        continue;
      }
      more = (bytes - taken + sorts[1].bytes - 1) / sorts[1].bytes;
      if (more > sorts[1].count) continue;
    }
    const double price =
        k * sorts[0].price + (more > 0 ? static_cast<double>(more) * sorts[1].price : 0);
    if (price < best.price) best = {price, {k, static_cast<std::uint32_t>(more)}, {}};
    if (taken >= bytes) break;  // more of them cost more
  }
  return best;
}

// Takes the experts with the lowest price a byte first; not always the cheapest set.
Problem::Choice Problem::greedy(const std::vector<Sort>& sorts, std::uint64_t bytes) {
  std::vector<std::size_t> order(sorts.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return sorts[a].price / static_cast<double>(sorts[a].bytes) <
           sorts[b].price / static_cast<double>(sorts[b].bytes);
  });
  Choice out{0, {}, std::vector<std::uint32_t>(sorts.size(), 0)};
  std::uint64_t left = bytes;
  for (const std::size_t i : order) {
    const std::uint64_t need = (left + sorts[i].bytes - 1) / sorts[i].bytes;
    const std::uint64_t take = std::min<std::uint64_t>(need, sorts[i].count);
    out.rest[i] = static_cast<std::uint32_t>(take);
    out.price += static_cast<double>(take) * sorts[i].price;
    left -= std::min(left, take * sorts[i].bytes);
  }
  return left == 0 ? out : Choice{};
}

void Problem::fill_aside(std::uint32_t device) {
  aside_.emplace_back();
  const bool any = std::any_of(movable.begin(), movable.end(), [&](std::uint32_t u) {
    return pipeline.units[u].experts > 0 && pipeline.aside_time(u, device) < kInfinity;
  });
  if (!any) return;
  const std::size_t n = count();
  std::vector<double>& table = aside_.back();
  table.assign(n * (n + 1) / 2, kInfinity);
  std::vector<Sort> sorts;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t resident = fixed_resident[device];
    std::uint64_t weights = fixed_weights[device];
    std::uint64_t workspace = fixed_workspace[device];
    sorts.clear();
    for (std::size_t j = i + 1; j <= n && first.back()[j] <= i; ++j) {
      const PipelineUnit& unit = pipeline.units[movable[j - 1]];
      resident += unit.resident;
      weights += unit.weights;
      workspace = std::max(workspace, unit.workspace);
      count_experts(sorts, movable[j - 1], device);
      const std::uint64_t lack = lacking(device, resident, weights, workspace);
      double& price = table[j * (j - 1) / 2 + i];
      price = lack == 0 ? 0 : cheapest(sorts, lack).price;
      if (price == kInfinity) break;  // a longer run lacks more
      exact_aside = exact_aside && (lack == 0 || sorts.size() <= 2);
    }
  }
}

std::vector<std::uint32_t> Problem::experts_aside(std::size_t kind, std::size_t i,
                                                  std::size_t j) const {
  std::vector<std::uint32_t> out;
  if (!has_aside(kind)) return out;
  const std::uint32_t device = kinds[kind][0];
  std::uint64_t resident = fixed_resident[device];
  std::uint64_t weights = fixed_weights[device];
  std::uint64_t workspace = fixed_workspace[device];
  std::vector<Sort> sorts;
  for (std::size_t k = i; k < j; ++k) {
    const PipelineUnit& unit = pipeline.units[movable[k]];
    resident += unit.resident;
    weights += unit.weights;
    workspace = std::max(workspace, unit.workspace);
    count_experts(sorts, movable[k], device);
  }
  const std::uint64_t lack = lacking(device, resident, weights, workspace);
  if (lack == 0) return out;
  const Choice choice = cheapest(sorts, lack);
  std::vector<std::uint32_t> take = choice.rest;
  if (take.empty()) take.assign(choice.take.begin(), choice.take.end());
  for (std::size_t k = i; k < j; ++k) {
    const std::uint32_t u = movable[k];
    for (std::size_t s = 0; s < sorts.size() && s < take.size(); ++s) {
      if (take[s] == 0 || pipeline.units[u].experts != sorts[s].bytes ||
          pipeline.aside_time(u, device) != sorts[s].price) {
        continue;
      }
      --take[s];
      out.push_back(u);
    }
  }
  return out;
}

Windows::Windows(const Problem& problem, const States& states) {
  const auto n = static_cast<std::uint32_t>(problem.count());
  const std::size_t kinds = problem.kinds.size();
  std::vector<std::vector<std::uint32_t>> end(kinds, std::vector<std::uint32_t>(n + 1, 0));
  for (std::size_t kind = 0; kind < kinds; ++kind) {  // by start: the furthest end that fits
    std::uint32_t j = 0;
    for (std::uint32_t i = 0; i <= n; ++i) {
      j = std::max(j, i);
      while (j < n && problem.first[kind][j + 1] <= i) ++j;
      end[kind][i] = j;
    }
  }
  // By state: the earliest boundary from which its devices can hold all units to the chain's end.
  std::vector<std::uint32_t> lowest(states.count, n);
  last.assign(states.count, 0);
  for (std::size_t state = 1; state < states.count; ++state) {
    for (std::size_t kind = 0; kind < kinds; ++kind) {
      if (states.used(state, kind) == 0) continue;
      const std::size_t before = state - states.stride[kind];
      last[state] = std::max(last[state], end[kind][last[before]]);
      lowest[state] = std::min(lowest[state], problem.first[kind][lowest[before]]);
    }
  }
  for (std::size_t state = 0; state < states.count; ++state) {
    first.push_back(lowest[states.count - 1 - state]);  // of the devices that it does not use
  }
}

}  // namespace berth::pipeline

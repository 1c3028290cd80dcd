#include "planner/placement/pipeline_problem.h"

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
    if (fixed_resident[d] + fixed_workspace[d] > device.room ||
        fixed_weights[d] > device.weight_room) {
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
    } else {
      kind->push_back(d);
    }
  }
}

bool Problem::same_kind(std::uint32_t a, std::uint32_t b) const {
  const PipelineDevice& x = pipeline.devices[a];
  const PipelineDevice& y = pipeline.devices[b];
  if (x.room != y.room || x.weight_room != y.weight_room) return false;
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
  const PipelineDevice& room = pipeline.devices[device];
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
    weights += unit.weights;
    resident += unit.resident;
    const auto workspace = [&](std::uint32_t u) { return pipeline.units[movable[u]].workspace; };
    while (widest.size() > head && workspace(widest.back()) <= unit.workspace) widest.pop_back();
    widest.push_back(last);
    while (start < end) {
      const std::uint64_t work = std::max(fixed_workspace[device], workspace(widest[head]));
      if (resident + work <= room.room && weights <= room.weight_room) break;
      const PipelineUnit& gone = pipeline.units[movable[start]];
      weights -= gone.weights;
      resident -= gone.resident;
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

}  // namespace berth::pipeline

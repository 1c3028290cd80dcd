#include <algorithm>
#include <utility>

#include "planner/search/pipeline_problem.h"

namespace berth::pipeline {

std::optional<PipelinePlan> solve_in_order(const Problem& problem) {
  const std::size_t n = problem.count();
  std::vector<std::pair<std::uint32_t, std::size_t>> order;  // device, kind
  for (std::size_t kind = 0; kind < problem.kinds.size(); ++kind) {
    for (std::uint32_t device : problem.kinds[kind]) order.emplace_back(device, kind);
  }
  std::sort(order.begin(), order.end());
  struct From {
    double cost = kInfinity;
    std::uint32_t begin = 0;
    std::uint32_t before = kNone;  // position in `order`
  };
  std::vector<std::vector<From>> best(order.size(), std::vector<From>(n + 1));
  From end;
  for (std::uint32_t at = 0; at < order.size(); ++at) {
    const auto [device, kind] = order[at];
    std::vector<From> start(n);
    start[0] = {problem.cross(0, kNone, device), 0, kNone};
    for (std::uint32_t before = 0; before < at; ++before) {
      for (std::uint32_t i = 1; i < n; ++i) {
        const double cost = best[before][i].cost + problem.cross(i, order[before].first, device);
        if (cost < start[i].cost) start[i] = {cost, i, before};
      }
    }
    for (std::uint32_t j = 1; j <= n; ++j) {
      for (std::uint32_t i = problem.first[kind][j]; i < j; ++i) {
        const double run = problem.prefix[kind][j] - problem.prefix[kind][i] +
                           problem.through[kind][j] - problem.through[kind][i + 1] +
                           problem.aside(kind, i, j);
        if (start[i].cost + run < best[at][j].cost) {
          best[at][j] = {start[i].cost + run, i, start[i].before};
        }
      }
    }
    const double total = best[at][n].cost + problem.cross(n, device, kNone);
    if (total < end.cost) end = {total, static_cast<std::uint32_t>(n), at};
  }
  if (end.cost == kInfinity) return std::nullopt;
  PipelinePlan plan;
  plan.exact = false;
  plan.cost = end.cost + problem.fixed_total;
  for (const PipelineUnit& unit : problem.pipeline.units) plan.device.push_back(unit.fixed);
  for (std::uint32_t at = end.before, j = end.begin; at != kNone;) {
    const From& from = best[at][j];
    for (std::uint32_t i = from.begin; i < j; ++i) {
      plan.device[problem.movable[i]] = order[at].first;
    }
    for (const std::uint32_t u : problem.experts_aside(order[at].second, from.begin, j)) {
      plan.aside.resize(plan.device.size(), false);
      plan.aside[u] = true;
    }
    j = from.begin;
    at = from.before;
  }
  return plan;
}

}  // namespace berth::pipeline

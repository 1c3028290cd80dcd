#include "planner/search/pipeline.h"

#include <algorithm>
#include <vector>

namespace berth {

double latency_of(const Pipeline& pipeline, const PipelinePlan& plan) {
  double cost = 0;
  for (std::size_t u = 0; u < plan.device.size(); ++u) {
    cost += pipeline.unit_time(u, plan.device[u]);
    if (u < plan.aside.size() && plan.aside[u]) cost += pipeline.aside_time(u, plan.device[u]);
    if (u > 0) cost += pipeline.hop_time(plan.device[u - 1], plan.device[u]);
  }
  return cost;
}

double slowest_of(const Pipeline& pipeline, const PipelinePlan& plan) {
  std::vector<double> total(pipeline.devices.size(), 0);
  for (std::size_t u = 0; u < plan.device.size(); ++u) {
    double& sum = total[plan.device[u]];
    sum += pipeline.unit_time(u, plan.device[u]);
    if (u < plan.aside.size() && plan.aside[u]) sum += pipeline.aside_time(u, plan.device[u]);
  }
  return total.empty() ? 0 : *std::max_element(total.begin(), total.end());
}

}  // namespace berth

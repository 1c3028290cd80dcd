#include "runtime/program/threads.h"

#include <algorithm>

#include "planner/machine/cgroup.h"
#include "runtime/kernels/team.h"

namespace berth {

std::size_t threads_to_use() {
  const std::size_t processors = ThreadTeam::processors();
  const double quota = read_cpu_quota();
  if (quota <= 0 || quota >= static_cast<double>(processors)) return processors;
  return std::max<std::size_t>(1, static_cast<std::size_t>(quota));
}

}  // namespace berth

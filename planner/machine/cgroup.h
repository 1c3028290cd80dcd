// How much host memory this process may still use, and how much CPU time: what the kernel has, and
// every limit that a control group above the process sets.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace berth {

struct HostLimits {
  std::uint64_t total = 0;      // bytes: MemTotal or the smallest limit; 0 where unknown
  std::uint64_t available = 0;  // bytes usable now without swapping: MemAvailable or what the
                                // tightest limit leaves, file cache it can drop counted as free
  // The file of the limit that leaves the least, "" where MemAvailable is the least.
  std::string limited_by;
};

// Reads proc/meminfo, proc/self/cgroup, proc/self/mountinfo and the mounted cgroup trees (version
// 1, 2 or both) below `root`. Counted are memory.max and memory.high of version 2,
// memory.limit_in_bytes and the hierarchical limit of version 1, of the process's group and of each
// of its ancestors that the mount shows; where the group lies outside the mount (as some containers
// have it), of the mount itself. Files that are missing or make no sense set no limit; never
// throws.
HostLimits read_host_memory(const std::filesystem::path& root = "/");

// The least CPU quota of those groups, in CPUs: cpu.max of version 2, cpu.cfs_quota_us over
// cpu.cfs_period_us of version 1. 0 where none is set; never throws.
double read_cpu_quota(const std::filesystem::path& root = "/");

}  // namespace berth

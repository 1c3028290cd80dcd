// How much host memory and CPU time this process may use: what the kernel has, within every limit
// that the control groups (cgroups) of the process set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace berth {

struct HostLimits {
  std::uint64_t total = 0;  // bytes: MemTotal or the smallest limit; 0 where unknown
  // Bytes usable now without swapping: MemAvailable, or what the tightest limit leaves if that is
  // less. File cache that a group can drop counts as free.
  std::uint64_t available = 0;
  // The file with the limit that leaves the least; "" if MemAvailable is less than any.
  std::string limited_by;
};

// Reads proc/meminfo, proc/self/cgroup, proc/self/mountinfo and the mounted cgroup trees (version
// 1, 2 or both) below `root`. The limits are memory.max and memory.high of version 2, and
// memory.limit_in_bytes and the hierarchical limit of version 1: those of the process's group and
// of each ancestor that the mount shows. If the group lies outside the mount, as in some
// containers, those of the mount's own group count. Files that are missing or make no sense set no
// limit. Never throws.
HostLimits read_host_memory(const std::filesystem::path& root = "/");

// What the kernel says of memory by sysinfo(2), which needs no /proc. Page cache that could be
// dropped is not known, and does not count as available.
HostLimits kernel_memory();

// The smallest CPU quota of the same groups, in CPUs: cpu.max of version 2, cpu.cfs_quota_us /
// cpu.cfs_period_us of version 1. 0 if none is set. Never throws.
double read_cpu_quota(const std::filesystem::path& root = "/");

}  // namespace berth

// What probe_machine() (berth/machine.h) does, with everything that it looks at given as an
// argument, so that tests can make it up.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "berth/machine.h"
#include "planner/machine/cgroup.h"
#include "planner/machine/nvml.h"

namespace berth {

struct Surroundings {
  std::string nvml{kDriverLibrary};  // the library that is asked about GPUs
  std::filesystem::path root = "/";  // holds proc/, sys/ and the cgroup mounts
  std::filesystem::path folder;      // its file system is the machine's disk
  // What the kernel says of memory where proc/ does not. Default: nobody is asked.
  std::function<HostLimits()> kernel_memory;
  unsigned threads = 1;                        // the CPUs that this process may run on
  std::optional<std::string> visible_devices;  // CUDA_VISIBLE_DEVICES
  std::optional<std::string> device_order;     // CUDA_DEVICE_ORDER
};

// The surroundings of this process.
Surroundings real_surroundings(const std::filesystem::path& folder);

// How many CPUs this process can use at once: as many as its affinity allows, but no more than the
// quota of its control groups, rounded up; at least 1.
unsigned usable_cpus();

// The machine that is found. Never throws for absent hardware; what could not be asked is a note.
Machine probe(const Surroundings& around);

}  // namespace berth

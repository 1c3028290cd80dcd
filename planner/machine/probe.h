// Probing with its surroundings given: what probe_machine() (machine.h) does, open to tests.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "berth/machine.h"
#include "planner/machine/nvml.h"

namespace berth {

struct Surroundings {
  std::string nvml{kDriverLibrary};
  std::filesystem::path root = "/";            // holds proc/ and the cgroup mounts
  std::filesystem::path folder;                // whose disk is asked
  unsigned threads = 1;                        // that this process may run on
  std::optional<std::string> visible_devices;  // CUDA_VISIBLE_DEVICES
  std::optional<std::string> device_order;     // CUDA_DEVICE_ORDER
};

// Those of this process.
Surroundings real_surroundings(const std::filesystem::path& folder);

// CPUs that this process can use at once: those its affinity allows, at most what the control
// groups' quota pays for, rounded up; at least 1.
unsigned usable_cpus();

Machine probe(const Surroundings& around);

}  // namespace berth

// What the NVIDIA driver says about this machine's GPUs, asked through its management library
// (NVML). The library is opened at run time, so Berth builds and runs without one, and no CUDA
// context is made. Declarations are our own; only stable, versioned entry points are used.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

struct GpuReport {
  std::string name;         // "NVIDIA H200"; "GPU" where the driver names none
  std::string uuid;         // "GPU-5f1c...", "" where unknown
  std::string pci_bus_id;   // "00000000:65:00.0", "" where unknown
  std::uint64_t total = 0;  // bytes of memory
  std::uint64_t free = 0;   // bytes not taken by any process now
  int pcie_generation = 0;  // the best that card and slot agree on, as idle links slow down;
  int pcie_lanes = 0;       // 0 where unknown
  double speed = 0;         // cores x Hz, for ordering only; 0 where unknown
  bool usable = false;      // answers, reports memory, and is not cut up by MIG
};

struct NvmlReport {
  std::vector<GpuReport> gpus;  // in PCI order, also those that are not usable
  // [from][to], bytes per second one way as published, 0 without NVLink between the two; through
  // switches every pair that has links to them.
  std::vector<std::vector<double>> nvlink;
  std::vector<std::vector<bool>> peer;  // [from][to]: may read and write each other over PCIe
  std::vector<std::string> notes;       // what failed, one line each
};

inline constexpr std::string_view kDriverLibrary = "libnvidia-ml.so.1";

// Asks `library` (a path or a name for dlopen). Never throws for what driver or library do: what
// fails is a note, and without a library the report is empty but for its note. The driver's own
// library stays open once it has answered.
NvmlReport read_nvml(const std::string& library = std::string(kDriverLibrary));

}  // namespace berth

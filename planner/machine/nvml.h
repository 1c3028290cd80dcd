// What the NVIDIA driver says about this machine's GPUs, through its management library (NVML). The
// library is opened at run time, so that Berth builds and runs without one; no CUDA context is
// made. The declarations of its functions are our own; only stable, versioned ones are used.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

struct GpuReport {
  std::string name;         // "NVIDIA H200"; "GPU" if the driver gives no name
  std::string uuid;         // "GPU-5f1c..."; "" if unknown
  std::string pci_bus_id;   // "00000000:65:00.0"; "" if unknown
  std::uint64_t total = 0;  // bytes of memory
  std::uint64_t free = 0;   // bytes not taken by any process now
  int pcie_generation = 0;  // the best that both ends support (idle links slow down); 0: unknown
  int pcie_lanes = 0;       // 0 if unknown
  int numa_node = -1;       // that its own memory is, as on GH200; -1: none, or not told
  double speed = 0;         // cores x Hz, only to put GPUs in order; 0 if unknown
  bool usable = false;      // it answers, reports its memory, and is not divided by MIG
};

struct NvmlReport {
  std::vector<GpuReport> gpus;  // in PCI order, with those that are not usable
  // [from][to]: bytes per second one way, the nominal rate; 0 if no NVLink joins the two. Switches
  // join every two GPUs that have links to a switch.
  std::vector<std::vector<double>> nvlink;
  std::vector<std::vector<bool>> peer;  // [from][to]: may read and write each other over PCIe
  std::vector<std::string> notes;       // what failed, one line each
};

inline constexpr std::string_view kDriverLibrary = "libnvidia-ml.so.1";

// Asks the driver through `library` (a path or a name for dlopen). Never throws for what the driver
// or the library does: what fails is a note, and without a library the report has a note and no
// GPUs. The driver's own library stays open once it has answered. Thread-safe.
NvmlReport read_nvml(const std::string& library = std::string(kDriverLibrary));

}  // namespace berth

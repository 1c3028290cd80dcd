// Published speeds of common GPUs, for what neither the driver nor a machine file says. Pure
// functions.
#pragma once

#include <string_view>

namespace berth {

struct GpuFigures {
  std::string_view words;       // all are words of the name that the driver gives the GPU
  double memory_bandwidth = 0;  // bytes/s
  double flops = 0;             // dense bf16/fp16 with f32 accumulation, FLOP/s
  int pcie_generation = 0;      // with 16 lanes
};

// The figures of a GPU by the name that its driver gives ("NVIDIA A100-SXM4-80GB"); null if it is
// not in the table.
const GpuFigures* find_gpu(std::string_view description);

// What a copy from pinned memory reaches over PCIe, in bytes/s one way: 80 % of the rate of the
// lanes (25 GB/s for generation 4 x16). 0 for a generation that does not exist.
double pcie_bandwidth(int generation, int lanes);

}  // namespace berth

// Published figures of GPUs that people have, for what neither a driver nor a file says.
#pragma once

#include <string_view>

namespace berth {

struct GpuFigures {
  std::string_view words;       // each is a word of the driver's name for it
  double memory_bandwidth = 0;  // bytes/s
  double flops = 0;             // dense bf16/fp16 with f32 accumulation, FLOP/s
  int pcie_generation = 0;      // of 16 lanes
};

// The figures for a GPU by the name its driver gives ("NVIDIA A100-SXM4-80GB"), null where unknown.
const GpuFigures* find_gpu(std::string_view description);

// What a pinned copy reaches over PCIe, bytes/s one way: 80 % of the lanes' rate (gen 4 x16: 25
// GB/s). 0 for a generation that does not exist.
double pcie_bandwidth(int generation, int lanes);

}  // namespace berth

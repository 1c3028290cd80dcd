// Which GPUs a CUDA program would see, and under which ordinals.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "planner/machine/nvml.h"

namespace berth {

// The GPUs that CUDA would show, as indices into `gpus` (PCI order); their place is the ordinal.
//
// `order` is CUDA_DEVICE_ORDER. Without "PCI_BUS_ID" CUDA puts faster GPUs first, by a rule of its
// own: GPUs of one name stay in PCI order, others are sorted here by cores x clock, with a note.
//
// `visible` is CUDA_VISIBLE_DEVICES, a list of ordinals in that order and of UUIDs or unambiguous
// beginnings of them ("GPU-8a"). As CUDA has it: unset shows all, "" shows none, the list ends at
// its first entry that names no GPU, and a GPU named twice leaves none. MIG entries end it too.
// What was ended and why is appended to `notes`.
std::vector<std::size_t> visible_gpus(const std::vector<GpuReport>& gpus,
                                      const std::optional<std::string>& visible,
                                      const std::optional<std::string>& order,
                                      std::vector<std::string>& notes);

}  // namespace berth

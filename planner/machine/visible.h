// Works out which GPUs a CUDA program would see, and under which ordinals. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "planner/machine/nvml.h"

namespace berth {

// The GPUs that CUDA would show, as indices into `gpus`, which are in PCI order. The index in the
// result is the CUDA ordinal.
//
// `order` is CUDA_DEVICE_ORDER. Unless it is "PCI_BUS_ID", CUDA puts faster GPUs first, by a rule
// that is not published. GPUs that all have one name stay in PCI order; others are sorted by cores
// x clock here, and a note says that this may be wrong.
//
// `visible` is CUDA_VISIBLE_DEVICES, a list of ordinals in that order and of UUIDs or unambiguous
// beginnings of UUIDs ("GPU-8a"). The rules are CUDA's: unset shows all GPUs, "" shows none, the
// list ends at its first entry that names no GPU, and a GPU that is named twice makes it show none.
// Entries for MIG end the list, too, as Berth does not use MIG. A note says why GPUs are hidden.
std::vector<std::size_t> visible_gpus(const std::vector<GpuReport>& gpus,
                                      const std::optional<std::string>& visible,
                                      const std::optional<std::string>& order,
                                      std::vector<std::string>& notes);

}  // namespace berth

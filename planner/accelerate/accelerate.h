// The placements of Hugging Face Accelerate 1.15 (get_balanced_memory, infer_auto_device_map,
// clean_device_map), tensor for tensor, oddities included, so that users can move over.
//
// Accelerate knows bytes of weights and nothing else: no KV cache, no workspace, no speed. The
// oddities that users meet, all kept: GPU 0 and the CPU hold back space for the largest layer that
// is still to be placed; a device that was passed over is never returned to; a tied partner drags
// its whole module along; an absent "cpu" sends what is left to the disk; the disk is infinite.
// Accelerate works on lists of names and is quadratic; this works on ids and is nearly linear.
//
// Where Accelerate itself would crash (a tied partner that was placed already, `balanced_low_0`
// without GPUs 0..n-1), the missing part counts as nothing and a note says so. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

struct AccelerateResult {
  std::vector<Budget> budgets;  // as balancing left them, in Accelerate's order, "disk" last
  DeviceMap device_map;         // cleaned: a module whose parts share a device is one key
  std::vector<std::uint32_t> tensor_device;  // by TensorId; index into `budgets`; never kNone
  std::vector<std::string> notes;
};

// What get_balanced_memory makes of budgets in Accelerate's order. `low_zero`: balanced_low_0.
// `probed`: the user gave no budgets; a single GPU then keeps a tenth free.
std::vector<Budget> balanced_memory(const ModelTree& tree, std::vector<Budget> budgets,
                                    bool low_zero, bool probed, std::vector<std::string>& notes);

// The whole of it. `policy` is kBalanced, kBalancedLow0 or kSequential.
AccelerateResult accelerate_place(const ModelTree& tree, Policy policy,
                                  const std::vector<Budget>& budgets, bool probed);

}  // namespace berth

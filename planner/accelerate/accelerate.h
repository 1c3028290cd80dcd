// The placements that Hugging Face Accelerate 1.15 makes (get_balanced_memory,
// infer_auto_device_map, clean_device_map), tensor for tensor and with all its oddities, so that
// users get from Berth what they had before.
//
// Accelerate counts bytes of weights and nothing else: no KV cache, no workspace, no speed. Users
// may notice these oddities: the first device and the CPU keep space free for the largest layer
// that is still to be placed; once Accelerate has gone on to the next device, it never returns to
// an earlier one; a tensor that is tied to one in another module takes that whole module along; if
// there is no "cpu", what is left goes to the disk; the disk is infinite. Accelerate works on lists
// of names, in quadratic time; this code works on ids, in nearly linear time.
//
// Where Accelerate itself would crash, this code goes on and adds a note: a tied partner that was
// placed already stays where it is, and a GPU whose budget `balanced_low_0` needs but that has none
// counts as having no memory. All functions are pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

struct AccelerateResult {
  std::vector<Budget> budgets;  // after balancing, in Accelerate's order, "disk" last
  DeviceMap device_map;         // cleaned: a module that is all on one device is one key
  std::vector<std::uint32_t> tensor_device;  // by TensorId; index into `budgets`; never kNone
  std::vector<std::string> notes;
};

// What get_balanced_memory makes of budgets, which must be in Accelerate's order. `low_zero`: the
// policy is balanced_low_0. `probed`: the user gave no budgets; a single GPU then keeps a tenth
// free. Appends to `notes`.
std::vector<Budget> balanced_memory(const ModelTree& tree, std::vector<Budget> budgets,
                                    bool low_zero, bool probed, std::vector<std::string>& notes);

// Places `tree` as Accelerate would. `policy` is kBalanced, kBalancedLow0 or kSequential; `budgets`
// may be in any order; `probed` as above. Throws Error for a budget of an unknown device or one
// that is given twice.
AccelerateResult accelerate_place(const ModelTree& tree, Policy policy,
                                  const std::vector<Budget>& budgets, bool probed);

}  // namespace berth

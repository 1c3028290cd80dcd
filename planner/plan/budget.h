// Budgets: how many bytes of weights each device may hold, as --max-memory says, and machines of
// which nothing else is known (budget_machine() in berth/plan.h). Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "berth/plan.h"

namespace berth {

// Bytes of a device without a limit. Small enough that sums of two do not overflow.
inline constexpr std::uint64_t kUnlimited = 1ull << 62;
inline constexpr char kBudgetSource[] = "--max-memory";  // Machine::source of budget_machine()
inline constexpr char kBudgetDevice[] = "known from its budget alone";  // Device::description

// Whether the name is that of host RAM: "cpu", or a NUMA node of it, such as "cpu:1".
bool names_host(std::string_view device);

// True if `device` is meant to be a GPU: anything but host RAM and "disk". It need not be a valid
// number; gpu_number() checks that.
bool names_gpu(const std::string& device);

// The number of the GPU `device` ("0", "1", ...). Throws Error if the name is not a number.
std::uint32_t gpu_number(const std::string& device);

// The budgets in Accelerate's order: GPUs by number, then the cpu, then the disk, which is always
// there and without a limit, whatever was asked for. Throws Error if a name is not a device, or if
// a device is named twice.
std::vector<Budget> accelerate_order(const std::vector<Budget>& budgets);

}  // namespace berth

// Budgets: bytes of weights by device, as --max-memory gives them, and machines that are known from
// nothing else (budget_machine() in berth/plan.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

inline constexpr std::uint64_t kUnlimited = 1ull << 62;
inline constexpr char kBudgetSource[] = "--max-memory";  // Machine::source of budget_machine()
inline constexpr char kBudgetDevice[] = "known from its budget alone";  // Device::description

// True for the name of a GPU in a budget: a number, where anything but "cpu" and "disk" is meant
// to be one.
bool names_gpu(const std::string& device);

// The number of the GPU `device`. Throws Error where the name is none.
std::uint32_t gpu_number(const std::string& device);

// The budgets in Accelerate's order: GPUs ascending, then cpu, then disk (infinite, whatever was
// asked). Throws Error for a device of another name and for one named twice.
std::vector<Budget> accelerate_order(const std::vector<Budget>& budgets);

}  // namespace berth

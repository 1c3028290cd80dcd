#include "berth/plan.h"

#include <array>
#include <utility>

namespace berth {
namespace {

constexpr std::array<std::pair<Policy, std::string_view>, 6> kPolicies{{
    {Policy::kAuto, "auto"},
    {Policy::kBalanced, "balanced"},
    {Policy::kBalancedLow0, "balanced_low_0"},
    {Policy::kSequential, "sequential"},
    {Policy::kThroughput, "throughput"},
    {Policy::kDeviceMap, "device_map"},
}};

constexpr std::array<std::pair<CpuMemory, std::string_view>, 3> kCpuMemory{{
    {CpuMemory::kMmap, "mmap"},
    {CpuMemory::kPrivate, "private"},
    {CpuMemory::kPinned, "pinned"},
}};

template <typename Table, typename Value>
std::string_view name_of(const Table& table, Value value) {
  for (const auto& [entry, name] : table) {
    if (entry == value) return name;
  }
  return "";
}

}  // namespace

std::string_view policy_name(Policy policy) { return name_of(kPolicies, policy); }

std::vector<std::string_view> policy_names() {
  std::vector<std::string_view> names;
  for (const auto& [policy, name] : kPolicies) {
    if (policy != Policy::kDeviceMap) names.push_back(name);
  }
  return names;
}

std::optional<Policy> parse_policy(std::string_view name) {
  for (const auto& [policy, known] : kPolicies) {
    // "device_map" is no policy that can be asked for: one gives a map instead.
    if (known == name && policy != Policy::kDeviceMap) return policy;
  }
  return std::nullopt;
}

std::string_view cpu_memory_name(CpuMemory mode) { return name_of(kCpuMemory, mode); }

std::optional<CpuMemory> parse_cpu_memory(std::string_view name) {
  for (const auto& [mode, known] : kCpuMemory) {
    if (known == name) return mode;
  }
  return std::nullopt;
}

}  // namespace berth

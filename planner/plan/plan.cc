#include "berth/plan.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "planner/plan/policies.h"

namespace berth {
namespace {

struct CpuMemoryRow {
  CpuMemory mode;
  std::string_view name;
};

constexpr CpuMemoryRow kCpuMemory[] = {
    {CpuMemory::kMmap, "mmap"},
    {CpuMemory::kPrivate, "private"},
    {CpuMemory::kPinned, "pinned"},
};

// The row in which `member` is `value`; null where there is none.
template <typename Row, std::size_t rows, typename Value>
const Row* find_row(const Row (&table)[rows], Value Row::*member,
                    std::type_identity_t<Value> value) {
  const auto found = std::ranges::find(table, value, member);
  return found == std::end(table) ? nullptr : &*found;
}

template <typename Row>
std::string_view name_of(const Row* row) {
  return row != nullptr ? row->name : std::string_view();
}

// False for "device_map", which is no policy to ask for: one gives a map instead.
bool can_be_asked_for(const PolicyRow& row) { return row.placer != Placer::kUser; }

}  // namespace

std::string_view policy_name(Policy policy) {
  return name_of(find_row(kPolicies, &PolicyRow::policy, policy));
}

std::vector<std::string_view> policy_names() {
  std::vector<std::string_view> names;
  for (const PolicyRow& row : kPolicies) {
    if (can_be_asked_for(row)) names.push_back(row.name);
  }
  return names;
}

std::optional<Policy> parse_policy(std::string_view name) {
  const PolicyRow* row = find_row(kPolicies, &PolicyRow::name, name);
  return row != nullptr && can_be_asked_for(*row) ? std::optional(row->policy) : std::nullopt;
}

Placer placer_of(const Request& request) {
  if (request.device_map) return Placer::kUser;
  return find_row(kPolicies, &PolicyRow::policy, request.policy)->placer;
}

std::vector<Policy> all_policies() {
  std::vector<Policy> policies;
  for (const Placer placer : {Placer::kBerth, Placer::kAccelerate}) {
    for (const PolicyRow& row : kPolicies) {
      if (row.placer == placer) policies.push_back(row.policy);
    }
  }
  return policies;
}

std::string_view cpu_memory_name(CpuMemory mode) {
  return name_of(find_row(kCpuMemory, &CpuMemoryRow::mode, mode));
}

std::vector<std::string_view> cpu_memory_names() {
  std::vector<std::string_view> names;
  for (const CpuMemoryRow& row : kCpuMemory) names.push_back(row.name);
  return names;
}

std::optional<CpuMemory> parse_cpu_memory(std::string_view name) {
  const CpuMemoryRow* row = find_row(kCpuMemory, &CpuMemoryRow::name, name);
  return row != nullptr ? std::optional(row->mode) : std::nullopt;
}

}  // namespace berth

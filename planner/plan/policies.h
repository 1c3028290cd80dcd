// The table of policies: all that there is to know about a policy but how it places, in one row.
//
// What comes from it: the names and what parses them (berth/plan.h), the help of --policy, the rows
// of --compare, and whether Berth, Accelerate or a device map decides where the weights go.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "berth/plan.h"

namespace berth {

// Who decides where the weights go.
enum class Placer : std::uint8_t {
  kBerth,       // planner/search
  kAccelerate,  // planner/accelerate
  kUser,        // a device map
};

struct PolicyRow {
  Policy policy;
  std::string_view name;
  Placer placer;
};

// In the order in which messages and the help list them.
inline constexpr PolicyRow kPolicies[] = {
    {Policy::kAuto, "auto", Placer::kBerth},
    {Policy::kBalanced, "balanced", Placer::kAccelerate},
    {Policy::kBalancedLow0, "balanced_low_0", Placer::kAccelerate},
    {Policy::kSequential, "sequential", Placer::kAccelerate},
    {Policy::kThroughput, "throughput", Placer::kBerth},
    {Policy::kDeviceMap, "device_map", Placer::kUser},
};

// Who places what a request asks for: a device map, where there is one, outranks the policy.
Placer placer_of(const Request& request);
inline bool is_own(const Request& request) { return placer_of(request) == Placer::kBerth; }

// All policies that a request can ask for, Berth's own first.
std::vector<Policy> all_policies();

}  // namespace berth

// The lower bound behind Estimate::optimality_gap, by Lagrangian relaxation: every device asks a
// price for each byte, and each unit makes its cheapest choice by itself. Whatever the prices are,
// the sum of these choices, less the price of all the devices' space, is at most the cost of any
// placement that fits. The search climbs to prices that make the bound high. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/search/pipeline.h"

namespace berth {

// One way to place a unit: on `home`, with `side_bytes` of it on `side` (= `home` if none are).
struct Choice {
  double time = 0;  // ns
  std::uint32_t home = 0;
  std::uint32_t side = 0;
  double home_bytes = 0;
  double side_bytes = 0;
};

struct Choices {
  std::vector<double> space;               // by device: bytes
  std::vector<std::vector<Choice>> units;  // by unit: the ways to place it
  double hops = 0;                         // ns that hops take at the least
};

// A lower bound, in ns, on the cost of one choice for each unit within the space. `upper`: a cost
// that is known to be reachable; it only steers the search for prices. `known`: by unit, which of
// its choices a good placement makes, or empty; prices worked out from it are tried, too.
double price_bound(const Choices& choices, double upper, const std::vector<std::uint32_t>& known);

// True if a budget on weights limits the device more than its space does. Its bytes in a Choice are
// then those of weights alone.
inline bool counts_weights(const PipelineDevice& device) {
  return device.weight_space < device.space;
}
// By device: the most bytes that units can fill, beside the workspace that they need; less than the
// device has if no set of units fills it exactly.
std::vector<double> bound_spaces(const Pipeline& pipeline);
// The least ns that hops take: as many as the fewest devices that can hold the chain need, each as
// quick as the quickest.
double hop_bound(const Pipeline& pipeline);

// A lower bound, in ns, on the latency of every placement of units and experts, contiguous or not:
// price_bound() of the unit times, and hop_bound(). `upper` as above.
double latency_bound(const Pipeline& pipeline, double upper);

}  // namespace berth

// The lower bound behind optimality_gap: Lagrangian. With a price a byte on every device, each unit
// makes its cheapest choice by itself; whatever the prices, the sum of these less the price of all
// space is a bound on every placement that fits.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/search/pipeline.h"

namespace berth {

// One way to place a unit: on `home`, with `side_bytes` of it on `side` (= home where 0).
struct Choice {
  double time = 0;  // ns
  std::uint32_t home = 0;
  std::uint32_t side = 0;
  double home_bytes = 0;
  double side_bytes = 0;
};

struct Choices {
  std::vector<double> space;  // by device, bytes
  std::vector<std::vector<Choice>> units;
  double hops = 0;  // ns that hops take at the least
};

// `upper`: a cost known to be reachable; it only steers the search. `known`: by unit, the choice of
// a good placement, whose prices are tried first; or empty.
double price_bound(const Choices& choices, double upper, const std::vector<std::uint32_t>& known);

// True where a budget on weights is what limits the device: its bytes are then those of weights.
inline bool counts_weights(const PipelineDevice& device) {
  return device.weight_space < device.space;
}
// By device: bytes that units can really fill, beside the workspace they need.
std::vector<double> bound_spaces(const Pipeline& pipeline);
// The hops between as few devices as can hold the chain.
double hop_bound(const Pipeline& pipeline);

// No placement of units and experts, contiguous or not, costs less than this: a Lagrangian bound on
// the sum of times under each device's space, and the hops between as few devices as can hold the
// chain. `upper` is a cost known to be reachable; it only steers the search.
double latency_bound(const Pipeline& pipeline, double upper);

}  // namespace berth

// The order in which packed items stand along a chain: which device each position gets, so that as
// little time as possible goes into hops.
#pragma once

#include <cstdint>
#include <vector>

#include "berth/model.h"

namespace berth {

// A chain of items of some kinds, of which each bin takes a given number of each kind.
struct PackedChain {
  std::vector<std::uint32_t> kinds;  // by position: the kind, or kNone if `fixed` says the bin
  std::vector<std::uint32_t> fixed;  // by position: its bin, or kNone
  std::vector<std::vector<std::uint32_t>> counts;  // [bin][kind]; sums are those of `kinds`
  std::vector<double> hop;                         // [from * bins + to], ns; 0 on the diagonal
};

// By position: its bin, with few hops between neighbours. A beam search along the chain: of the
// ways to come as far as a position it keeps the best few, each with the least that the bins cost
// that still have items to take. Pure.
std::vector<std::uint32_t> order_packed(const PackedChain& chain);

}  // namespace berth

// How long products of weights with activations take by rates that were measured.
#pragma once

#include <cstdint>
#include <map>

namespace berth {

// The seconds that products take for each byte of weights, while `positions` are computed at once.
// `rates`: bytes of weights a second, by number of positions; not empty. Between two of these
// numbers the seconds are interpolated, since weights are read once and every position is computed
// with them: seconds = a + b x positions. Below the first it is as for the first, and beyond the
// last the line through the last two goes on (with one number alone, nothing changes). More
// positions never take less than the first number does.
double product_seconds(const std::map<std::uint32_t, double>& rates, double positions);

// The seconds that a product takes beside its weights, in the same way; 0 where nothing is known.
double start_seconds(const std::map<std::uint32_t, double>& starts, double positions);

}  // namespace berth

// What the fuzz target does, for the test that runs its seeds.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace berth {

// `input`: a form of quantised weight, its rows and columns in a byte each, then the contents of
// all its stored tensors, repeated as often as it takes. "" where the weight was dequantised, else
// the error.
std::string weight_tables_outcome(std::span<const std::uint8_t> input);

}  // namespace berth

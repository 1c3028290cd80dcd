// What the fuzz target does, so that the test that runs its seeds can call it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace berth {

// `input` is the number of a form of quantised weight, its rows and columns in a byte each, and
// then the contents of all its stored tensors, repeated as often as needed. Returns "" if the
// weight was dequantised, else the error.
std::string weight_tables_outcome(std::span<const std::uint8_t> input);

}  // namespace berth

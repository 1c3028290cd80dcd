// Sizes, rates and times as people write them: "24GiB", "1008GB/s", "165TFLOP/s", "10us".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "planner/base/error.h"

namespace berth {

// Bytes. Decimal units KB..PB, binary KiB..PiB, any case of the letters but `b` for bits is
// refused; a bare number is bytes; fractions ("1.5GiB") round down. "80GBs", "-1", "1e400" and
// anything over 2^63 are Errors: "'80GBs' is not a size (try 80GB)".
std::uint64_t parse_size(std::string_view text);
double parse_bandwidth(std::string_view text);  // bytes per second: "25GB/s"
double parse_flops(std::string_view text);      // "165TFLOP/s", "1.5TFLOPS"
double parse_duration(std::string_view text);   // seconds: "10us", "1.5ms"

std::string format_gib(std::uint64_t bytes, int decimals = 2);  // "131.42", no unit
std::string format_size(std::uint64_t bytes);                   // "131.42 GiB", "12.0 KiB"

}  // namespace berth

// Sizes, rates and times as people write them: "24GiB", "1008GB/s", "165TFLOP/s", "10us".
//
// A value is a decimal number ("24", "1.5", "1e9"), perhaps spaces, and a unit in any case of its
// letters: KB..PB count by 10^3, KiB..PiB by 2^10, as in Hugging Face Accelerate. Two spellings
// that others read in different ways are refused with advice: a lowercase last `b` ("80Gb": bits
// to Accelerate) and a prefix alone ("80G": 10^9 to some, 2^30 to others).
// Every refusal is an Error of one line: "'80GBs' is not a size (try 80GB)".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "berth/error.h"

namespace berth {

// Bytes. A bare number is bytes; fractions round down, in doubles as Accelerate has it; whole
// numbers are exact. "-1", "1e400" and anything of 2^63 and more are Errors.
std::uint64_t parse_size(std::string_view text);
// Bytes per second: "25GB/s"; a bare number is bytes per second.
double parse_bandwidth(std::string_view text);
// "165TFLOP/s", "1.5TFLOPS"; a bare number is FLOP/s.
double parse_flops(std::string_view text);
// Seconds: "10us", "1.5ms". A unit is needed, but for 0.
double parse_duration(std::string_view text);

std::string format_gib(std::uint64_t bytes, int decimals = 2);  // "131.42", no unit
// The largest unit that leaves 1 or more; two decimals from GiB on: "131.42 GiB", "12.0 KiB", "7
// B".
std::string format_size(std::uint64_t bytes);

}  // namespace berth

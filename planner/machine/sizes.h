// Reads and writes sizes, rates and times as people write them: "24GiB", "1008GB/s", "165TFLOP/s",
// "10us". Pure functions.
//
// A value is a decimal number ("24", "1.5", "1e9"), spaces if one likes, and a unit in upper or
// lower case: KB to PB count by 10^3, KiB to PiB by 2^10, as in Hugging Face Accelerate. Two
// spellings that programs read in different ways are refused with advice: a lowercase `b` at the
// end ("80Gb": Accelerate reads bits) and a prefix alone ("80G": 10^9 to some, 2^30 to others).
// Every refusal is an Error of one line: "'80GBs' is not a size (try 80GB)".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "berth/error.h"

namespace berth {

// Bytes. A bare number is bytes. Whole numbers are exact; fractions are worked out in doubles, as
// Accelerate does, and rounded down. "-1", "1e400" and anything of 2^63 and more are Errors.
std::uint64_t parse_size(std::string_view text);
// Bytes per second: "25GB/s". A bare number is bytes per second.
double parse_bandwidth(std::string_view text);
// FLOP per second: "165TFLOP/s", "1.5TFLOPS". A bare number is FLOP/s.
double parse_flops(std::string_view text);
// Seconds: "10us", "1.5ms". Only 0 needs no unit.
double parse_duration(std::string_view text);

std::string format_gib(std::uint64_t bytes, int decimals = 2);  // "131.42": GiB, without the unit
// In the largest unit that leaves a number of 1 or more, with two decimals from GiB on: "131.42
// GiB", "12.0 KiB", "7 B".
std::string format_size(std::uint64_t bytes);

}  // namespace berth

// What the exports are written with: lists of numbers and names, and patterns over numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/export/layer_homes.h"

namespace berth {

// The items one after another, with `separator` between them.
std::string join(const std::vector<std::string>& items, const char* separator);

// How many layers are on each of `gpus`.
std::vector<std::uint64_t> layers_on(const LayerHomes& homes,
                                     const std::vector<std::uint32_t>& gpus);

// "20,12": the counts with commas between them.
std::string numbers(const std::vector<std::uint64_t>& counts);

// True if `gpus` are all GPUs of the plan, in the order 0, 1, ...: tools then need not be told.
bool is_usual_order(const Plan& plan, const std::vector<std::uint32_t>& gpus);

// A regular expression that matches exactly these numbers in decimal, which must be ascending: for
// {3, 4, ..., 60} it is "[3-9]|[1-5][0-9]|60".
std::string number_pattern(const std::vector<std::uint64_t>& numbers);

}  // namespace berth

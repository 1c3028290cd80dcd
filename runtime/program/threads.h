// How many threads compute.
#pragma once

#include <cstddef>

namespace berth {

/// One thread for each processor, within the CPU quota of the control group: threads that spin
/// beyond it would use up the time of those that compute.
std::size_t threads_to_use();

}  // namespace berth

// How long it takes to move bytes from one device to another, over the links there are.
#pragma once

#include <vector>

#include "berth/machine.h"

namespace berth {

// Seconds for `bytes` from device i to device j, at [i * devices + j], by the quickest route: each
// link on the way costs its latency and bytes / bandwidth. GPUs without a direct link go through
// the host; the disk is where the host is. A pair that no link joins costs as much as two default
// PCIe links.
std::vector<double> route_seconds(const Machine& machine, double bytes);

}  // namespace berth

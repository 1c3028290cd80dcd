// How long it takes to move bytes from one device to another over the machine's links.
#pragma once

#include <vector>

#include "berth/machine.h"

namespace berth {

// The seconds that moving `bytes` from device i to device j takes, at [i * devices + j], over the
// quickest route (Dijkstra). Each link on the route costs its latency and bytes / bandwidth. GPUs
// without a direct link go through the host, the first NUMA node of which is meant. The disk counts
// as the host, because what stands on it is read into host RAM. A GPU without any link to the host
// gets one with the default latency and bandwidth. Pure.
std::vector<double> route_seconds(const Machine& machine, double bytes);

}  // namespace berth

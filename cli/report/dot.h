// Draws the module graph in Graphviz DOT: one node for each module in the order of execution,
// coloured by its device.
#pragma once

#include <string>

#include "cli/report/planned.h"

namespace berth {

// Solid edges follow the activations, bold where they hop to another device; dashed edges join the
// modules that share tied weights.
std::string plan_dot(const Planned& planned);

}  // namespace berth

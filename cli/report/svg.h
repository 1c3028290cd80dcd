// A plan as a picture: devices as columns filled to scale, and below them load peak and after load.
#pragma once

#include <string>

#include "cli/report/planned.h"

namespace berth {

// Returns an SVG document with one column for each device, which shows its layers, KV cache,
// workspace, reserve and free space. A run of like layers is one labelled block. All GPUs share one
// scale. The CPU and the disk use it too unless they hold far more than the GPUs; then their
// columns say how much smaller they are drawn. Free space that would dwarf the rest is cut off.
std::string plan_svg(const Planned& planned);

}  // namespace berth

// A plan as a picture: devices as columns filled to scale, and load peak beside after load.
#pragma once

#include <string>

#include "cli/report/planned.h"

namespace berth {

// An SVG document: a column a device with its layers, KV cache, workspace, reserve and free room;
// runs of like layers are one labelled block. GPUs share one scale, and so do the CPU and the disk
// where what they hold compares; else their columns say how much smaller they are drawn, and free
// room that would dwarf the rest is cut off.
std::string plan_svg(const Planned& planned);

}  // namespace berth

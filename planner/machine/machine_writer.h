// A machine as the text of a machine file, which read_machine_file() (machine.h) accepts.
#pragma once

#include <string>

#include "berth/machine.h"

namespace berth {

// YAML that ends in a newline: devices, links and `calibrated`. Capacities and reserves are exact;
// rates and latencies have four significant digits, and what is unknown (0) is left out, so that
// defaults apply where the file is read. Bytes of a text that are no UTF-8 become U+FFFD.
// The machine must have a device.
std::string write_machine(const Machine& machine);

}  // namespace berth

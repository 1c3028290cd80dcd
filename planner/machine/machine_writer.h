// Writes a machine as the text of a machine file, which read_machine_file() reads back.
#pragma once

#include <string>

#include "berth/machine.h"

namespace berth {

// YAML that ends in a newline: `calibrated`, devices and links. Capacities and reserves are exact;
// rates and latencies have four significant digits. What is unknown (0) is left out, so that
// defaults apply when the file is read. Bytes of a text that are not UTF-8 become U+FFFD. The
// machine must have at least one device. Pure.
std::string write_machine(const Machine& machine);

}  // namespace berth

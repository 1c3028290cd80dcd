// The speeds that `berth calibrate` measured on this machine, put in the place of defaults.
//
// The machine is still probed for what is there and what is free now. Measured rates and links
// replace defaults only where a device is the one that was measured:
//   cuda  the same UUID, whatever its ordinal is now; where a UUID is unknown, the same ordinal and
//         no other product
//   cpu   the same model, and as many CPUs to run on as then
//   disk  the same host, and the folder measured is on the file system that is planned for
// Capacities and reserves of the file are not used.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "berth/machine.h"

namespace berth {

// Where the calibration is kept: $BERTH_MACHINE_FILE; else $XDG_CONFIG_HOME/berth/machine.yaml;
// else ~/.config/berth/machine.yaml. "" where BERTH_MACHINE_FILE is set and empty, which turns
// calibrations off, or no home is known.
std::filesystem::path calibration_file();

// What tells this machine from another.
struct Here {
  std::string host;
  unsigned threads = 1;  // CPUs that this process may run on
};
Here this_host();

// Overlays `machine`, as probed, with what `measured` holds of its devices. Returns one sentence
// for the reader of a plan: when it was measured, and which devices keep default speeds and why.
std::string apply_calibration(const Machine& measured, const Here& here, Machine& machine);

// The same from calibration_file(). A file that cannot be read or is broken is an Error where
// BERTH_MACHINE_FILE names it, and else only said in the sentence: a plan must not die of it.
std::string use_calibration(Machine& machine);

}  // namespace berth

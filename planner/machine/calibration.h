// Replaces default speeds of this machine by those that `berth calibrate` measured on it.
//
// The machine is still probed for its devices and for what is free on them now. Measured rates and
// links replace defaults only if a device is the one that was measured:
//   cuda  the same UUID, whatever its ordinal is now; if a UUID is unknown, the same ordinal and
//         no other product
//   cpu   the same model, and as many CPUs to run on as then
//   disk  the same host, and the measured folder is on the file system that is planned for
// Capacities and reserves in the file are not used.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "berth/machine.h"

namespace berth {

// The file that the calibration is kept in: $BERTH_MACHINE_FILE, else
// $XDG_CONFIG_HOME/berth/machine.yaml, else ~/.config/berth/machine.yaml. "" if BERTH_MACHINE_FILE
// is set but empty, which turns calibration off, or if no home is known.
std::filesystem::path calibration_file();

// What tells this machine from another.
struct Here {
  std::string host;
  unsigned threads = 1;  // CPUs that this process may run on
};
Here this_host();

// Puts what was `measured` of the devices of `machine` (as probed) in place of their default
// speeds. Returns a sentence for the reader of a plan: when they were measured, and which devices
// keep default speeds and why.
std::string apply_calibration(const Machine& measured, const Here& here, Machine& machine);

// The same with the measurements in calibration_file(). Throws Error for a file that cannot be read
// or is broken, but only if BERTH_MACHINE_FILE names it; if not, the sentence says so and the plan
// is made with default speeds.
std::string use_calibration(Machine& machine);

}  // namespace berth

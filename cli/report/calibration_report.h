// What `berth calibrate` measured, as a machine for the file it writes, as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "runtime/calibrate/disk.h"
#include "runtime/calibrate/gpus.h"
#include "runtime/calibrate/kernels.h"
#include "runtime/calibrate/ram.h"

namespace berth {

// Members are empty where nothing was measured; `notes` says why.
struct Measurements {
  Calibrated calibrated;
  std::optional<RamFigures> ram;
  std::optional<KernelFigures> kernels;
  std::optional<DiskFigures> disk;
  MeasuredGpus gpus;
  std::vector<std::string> notes;  // includes the notes of the members above
};

// The devices of `probed` with the rates that were measured, and the links that were measured. A
// measured GPU is matched to a probed one by its UUID or, if either has none, by its ordinal; one
// that matches none is left out. So is a device of which not even the installed size is known.
Machine measured_machine(const Measurements& measured, const Machine& probed);

// One line a figure: what, how much, how it was measured. Ends in a newline.
std::string calibration_table(const Measurements& measured);

// {"figures": [{"device", "what", "value", "unit", "how"}], "notes": [..], "file": ..}; values in
// bytes/s, FLOP/s and seconds.
std::string calibration_json(const Measurements& measured, const std::string& file);

}  // namespace berth

// What `berth calibrate` measured, as a machine for the file it writes, as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "runtime/calibrate/disk.h"
#include "runtime/calibrate/gpus.h"
#include "runtime/calibrate/ram.h"
#include "runtime/exec/compute_rates.h"

namespace berth {

// Parts are empty where nothing was measured; why is in `notes`.
struct Measurements {
  Calibrated calibrated;
  std::optional<RamFigures> ram;
  std::optional<ComputeRates> compute;
  std::optional<DiskFigures> disk;
  MeasuredGpus gpus;
  std::vector<std::string> notes;  // of the parts' too
};

// The devices of `probed` with nothing but measured rates and links. GPUs are told by their UUID,
// where that is unknown by their ordinal; one that was not probed is left out.
Machine measured_machine(const Measurements& measured, const Machine& probed);

// One line a figure: what, how much, how it was measured. Ends in a newline.
std::string calibration_table(const Measurements& measured);

// {"figures": [{"device", "what", "value", "unit", "how"}], "notes": [..], "file": ..}; values in
// bytes/s, FLOP/s and seconds.
std::string calibration_json(const Measurements& measured, const std::string& file);

}  // namespace berth

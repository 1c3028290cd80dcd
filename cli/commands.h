// The commands of berth, one function each. A function returns the exit code of the process: 0 when
// the work is done or the plan fits, 2 when the plan does not fit. It throws Error when something
// goes wrong; only main catches it.
#pragma once

#include "cli/options/options.h"

namespace berth {

int cmd_plan(const Options& options);
int cmd_load(const Options& options);
int cmd_run(const Options& options);
int cmd_calibrate(const Options& options);
int cmd_convert(const Options& options);
int cmd_checksum(const Options& options);

inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitDoesNotFit = 2;
inline constexpr int kExitUsage = 64;  // EX_USAGE of sysexits.h

}  // namespace berth

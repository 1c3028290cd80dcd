// One function a command; each returns the exit code: 0 done or fits, 2 does not fit.
// Errors are thrown as Error and caught in main alone.
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

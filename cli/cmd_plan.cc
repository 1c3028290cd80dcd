// berth plan: decide, say why, and stop. Loads neither CUDA nor libtorch.

#include "cli/commands.h"
#include "cli/dot.h"
#include "cli/files.h"
#include "cli/plan_json.h"
#include "cli/plan_report.h"
#include "cli/terminal.h"

namespace berth {

int cmd_plan(const Options& options) {
  const bool dot_alone = options.dot == "-";
  if (dot_alone && (options.json || options.print_device_map)) {
    throw UsageError("--dot - writes to stdout, and so does --json or --print-device-map");
  }
  // Left to the end of the process: to take a large model apart takes as long as to plan it.
  static const Planned& planned = *new Planned(make_planned(options));

  if (options.save) write_file(*options.save, plan_json(planned));
  if (options.dot && !dot_alone) write_file(*options.dot, plan_dot(planned));

  if (dot_alone) {
    write_stdout(plan_dot(planned));
  } else if (options.print_device_map) {
    write_stdout(device_map_json(planned.plan.device_map) + "\n");
  } else if (options.json) {
    write_stdout(plan_json(planned));
  } else {
    write_stdout(plan_report(planned, {options.verbose, wants_colour(Stream::kStdout)}));
  }
  if (planned.plan.fits()) return kExitDone;
  if (options.print_device_map || dot_alone) {
    write_stderr(verdict(planned.plan, wants_colour(Stream::kStderr)));
  }
  return kExitDoesNotFit;
}

}  // namespace berth

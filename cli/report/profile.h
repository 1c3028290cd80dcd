// The steps of a run as a Chrome trace, beside the planned ones: chrome://tracing and Perfetto open
// it. The format: "Trace Event Format", the Chromium project.
#pragma once

#include <optional>
#include <string>

#include "berth/planner.h"
#include "cli/report/planned.h"
#include "runtime/program/step_log.h"

namespace berth {

// Two processes, "measured" and "planned"; each has a row "passes" and a row for every device that
// computes. In a measured row a step stands inside its layer; in a planned row there are the units
// of the plan. The planned passes follow one another as if the run had gone as planned: first the
// prompts, then `decode_steps` passes. Times are in microseconds from
// the first pass.
std::string profile_json(const Planned& planned, const std::optional<Forecast>& forecast,
                         const StepLog& log, std::size_t decode_steps);

}  // namespace berth

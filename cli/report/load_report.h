// Reports a load as text and as JSON, always with the planned figures beside the measured ones.
#pragma once

#include <string>

#include "berth/load.h"
#include "cli/report/planned.h"
#include "planner/base/json_writer.h"

namespace berth {

// The report of `berth load`; ends in a newline. `verbose` adds the read engine of every shard.
std::string load_report(const Planned& planned, const LoadReport& report, bool verbose);

// Two or three lines for `berth run`.
std::string short_load_report(const LoadReport& report);

// The members `after_load` and `measured` of load --json, into an open object.
void write_load(JsonWriter& json, const LoadReport& report);

}  // namespace berth

// Reads machines that are described in YAML, in a file of their own or inside another one.
#pragma once

#include "berth/machine.h"
#include "planner/base/yaml.h"

namespace berth {

// The machine that a YAML mapping describes: all of a machine file, or the inline machine of a
// deployment file. The keys are listed at read_machine_file() (berth/machine.h). Throws Error with
// file, line and field.
Machine parse_machine(const YamlValue& document);

}  // namespace berth

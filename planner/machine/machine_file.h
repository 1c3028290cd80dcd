// Machines described in YAML, by themselves or inside another file.
#pragma once

#include "berth/machine.h"
#include "planner/base/yaml.h"

namespace berth {

// A machine from a mapping that stands in another file: the inline machine of a deployment. Its
// keys are those of read_machine_file() (berth/machine.h). Throws Error with file, line and field.
Machine parse_machine(const YamlValue& document);

}  // namespace berth

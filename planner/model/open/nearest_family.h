// Which family of configs/architectures/ a config of an unknown family resembles most.
#pragma once

#include <string>

#include "planner/model/tree/config.h"

namespace berth {

// The model_type of the template that is nearest by name and by keys; "" where none is near. It is
// meant for messages: to read all templates takes some ten milliseconds.
std::string nearest_family(const ModelConfig& config);

}  // namespace berth

// Builds trees without a template, from a checkpoint's tensor names.
#pragma once

#include <optional>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// Builds the tree from the names. `config` may be null; if it has the usual keys, they fill in the
// facts. Throws Error if the names make too many modules.
ModelTree build_from_names(const Checkpoint& checkpoint, const ModelConfig* config,
                           std::optional<DType> dtype);

}  // namespace berth

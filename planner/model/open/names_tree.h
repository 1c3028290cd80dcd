// Trees without a template: what a checkpoint's tensor names spell.
#pragma once

#include <optional>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// The tree that the names spell. `config` may be null; it fills facts where it has common keys.
ModelTree build_from_names(const Checkpoint& checkpoint, const ModelConfig* config,
                           std::optional<DType> dtype);

}  // namespace berth

// Experts whose weights are stored in one tensor for all of them.
#pragma once

#include "runtime/program/builder.h"
#include "runtime/program/experts_step.h"

namespace berth {

/// Gives `step` the experts of a layer. Their inputs come from `home`, and their results go there.
void add_fused_experts(Builder& builder, const LayerRecipe& layer, DeviceIndex home,
                       ExpertsStep& step);

}  // namespace berth

// Joining a tree that a template spelled with the checkpoint that it is for.
#pragma once

#include <optional>

#include "berth/checkpoint.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/template/build.h"

namespace berth {

// Gives the tree's tensors their stored form. Throws Error for tensors missing on either side and
// for shapes that differ; see build_model_tree() (build_model_tree.h).
void match_checkpoint(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
                      const Quantization& quantization, const Checkpoint& checkpoint,
                      std::optional<DType> dtype);

}  // namespace berth

// Joins a tree that was built from a template with its checkpoint.
#pragma once

#include <optional>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/template/build.h"

namespace berth {

// Thrown where a checkpoint holds another variant of the family than its template describes: it
// lacks tensors of towers alone, or the same ones in every layer. Anything else that is missing is
// a damaged or unfinished checkpoint.
class OtherVariant : public Error {
 public:
  using Error::Error;
};

// Gives the tree's tensors their stored form. Throws Error for tensors that either side lacks, and
// for shapes that differ; see build_model_tree() in build_model_tree.h.
void match_checkpoint(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
                      const Quantization& quantization, const Checkpoint& checkpoint,
                      std::optional<DType> dtype);

}  // namespace berth

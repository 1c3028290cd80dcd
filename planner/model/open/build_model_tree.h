// The tree of a model, whatever is known of it: a config with a template, a checkpoint, or both.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/template/build.h"
#include "planner/model/tree/config.h"

namespace berth {

// Builds the tree for an opened model. `checkpoint` may be null (plan from config.json alone);
// `config` may be null (fallback tree from the tensor names, natural order).
// `dtype`: what --dtype asks for; converts F16/BF16/F32/F64 tensors and those in block formats;
// nullopt keeps each.
// Quantised weights are what is stored: packed values, scales and zero points in the place of each
// `weight`. From a config alone they follow its `quantization_config`; a checkpoint is believed
// over it (which layers, whether there is a g_idx), as long as every weight is whole in one known
// form. Throws Error for a tensor that the config asks for and the checkpoint lacks, for one that
// the checkpoint holds and the model does not know, and for shapes that differ, naming the tensor.
// With `dequantize` the tree is the unquantised model's: weights of `dtype`, or of the config's
// where there is none, made of what is stored (ModelTensor::dequantization). Throws Error naming
// the tensor and its format where that cannot be done.
ModelTree build_model_tree(const std::string& name, const ModelConfig* config,
                           const Checkpoint* checkpoint, std::optional<DType> dtype,
                           Dequantize dequantize = Dequantize::kNo);

// What a config says alone, before any checkpoint is looked at.
struct Skeleton {
  std::unique_ptr<Architecture> architecture;  // null: a family without a template, nothing built
  BuiltTree built;
};
// `expected_tensors`: how many the checkpoint will bring, about; 0 where there is none to join.
Skeleton build_skeleton(const ModelConfig& config, std::optional<DType> dtype,
                        std::size_t expected_tensors = 0);

// The tree of a skeleton and a checkpoint; see build_model_tree() for what may be null.
ModelTree join_model_tree(Skeleton skeleton, const std::string& name, const ModelConfig* config,
                          const Checkpoint* checkpoint, std::optional<DType> dtype,
                          Dequantize dequantize);

}  // namespace berth

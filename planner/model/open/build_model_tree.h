// Builds the tree of a model from whatever is known of it: a config with a template, a checkpoint,
// or both.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/template/build.h"
#include "planner/model/template/complete.h"
#include "planner/model/tree/config.h"

namespace berth {

// Builds the tree of an opened model.
// - `checkpoint` may be null: the plan is made from config.json alone.
// - `config` may be null: the tree follows from the tensor names, in natural order. What it leaves
// out is filled in by complete_config().
// - `dtype` is what --dtype asks for. It applies to F16, BF16, F32 and F64 tensors, and to those in
// block formats. nullopt keeps each tensor's own.
// - Without `dequantize`, quantised weights stay as they are stored: packed values, scales and zero
// points stand instead of each `weight`. From a config alone they follow its
// `quantization_config`. A checkpoint is believed over its config (which layers are quantised,
// whether there is a g_idx), as long as every weight is stored whole in one known form.
// - With `dequantize`, the tree is the unquantised model's: weights of `dtype`, or of the config's
// dtype if that is absent, which are made from what is stored (ModelTensor::dequantization).
// Throws Error, naming the tensor, if the config asks for a tensor that the checkpoint lacks, if
// the checkpoint holds one that the model does not have, if shapes differ, and if a weight cannot
// be dequantised (naming its format, too).
ModelTree build_model_tree(const std::string& name, const ModelConfig* config,
                           const Checkpoint* checkpoint, std::optional<DType> dtype,
                           Dequantize dequantize = Dequantize::kNo);

// What a config alone says, before any checkpoint is looked at.
struct Skeleton {
  std::shared_ptr<const ModelConfig> config;   // completed; null where there is no config.json
  std::unique_ptr<Architecture> architecture;  // null: a family without a template, nothing built
  BuiltTree built;
};
// `expected_tensors` is about how many tensors the checkpoint holds; 0 if there is no checkpoint.
Skeleton build_skeleton(ModelConfig config, std::optional<DType> dtype,
                        std::size_t expected_tensors = 0);

// Joins a skeleton with a checkpoint, which may be null where the skeleton has a config.
ModelTree join_model_tree(Skeleton skeleton, const std::string& name, const Checkpoint* checkpoint,
                          std::optional<DType> dtype, Dequantize dequantize);

}  // namespace berth

// A pipeline of diffusers: a folder with model_index.json, which names several models (components),
// each in a folder of its own: text encoders, a transformer or UNet, a VAE.
//
// A pipeline is opened as one model. Each component is a unit that stays whole, as diffusers moves
// whole components between devices; its tensors are called COMPONENT.name. What stands in it comes
// from the names of its tensors: nothing of a diffusion model is a KV cache, and how much its
// activations take depends on the size of the images, which no file says.
#pragma once

#include <filesystem>
#include <optional>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// Whether the folder holds a model_index.json. Looks at names only.
bool is_pipeline(const std::filesystem::path& folder);

// Opens the pipeline in `folder`. `dtype` is what floating-point weights become in memory. Throws
// Error naming file and key for an index that is malformed, and for a component that is missing,
// has no weights or is broken.
Model open_pipeline(const std::filesystem::path& folder, std::optional<DType> dtype);

// The weights of all its components as one checkpoint, whose shards are the files of all. Throws
// Error as open_pipeline() does.
Checkpoint open_pipeline_checkpoint(const std::filesystem::path& folder);

// Whether a config.json is that of one component of a pipeline: it has a `_class_name`, and no
// `model_type`.
bool is_component(const ModelConfig& config);

// The tree of one component: its blocks are units, and none of them keeps a KV cache.
ModelTree build_component_tree(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::optional<DType> dtype);

}  // namespace berth

// Opening a checkpoint: a folder of safetensors or, where there are none, of PyTorch's
// pytorch_model*.bin (one file, shards with an index, or shards whose index is missing), or one
// such file. Reads headers, never a byte of the weights. The formats are rows of weight_formats.h;
// formats that have their config inside are opened by planner/model/open/formats.h.
//
// Every rule of the format is enforced: size and count limits, checked arithmetic, unique names,
// shard names that stay in the folder; of safetensors, ranges that cover the data exactly.
#pragma once

#include <filesystem>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"
#include "planner/checkpoint/open/model_path.h"

namespace berth {

// Opens `model`, a folder, a .safetensors file or one of torch.save; see model_path.h for other
// ways to name one. What was found otherwise than it should be is in Checkpoint::notes. Throws
// Error naming file, tensor and offset for anything malformed, missing or unreadable.
Checkpoint open_checkpoint(const std::filesystem::path& model, const CheckpointLimits& limits = {});
Checkpoint open_checkpoint(const ModelPath& model, const CheckpointLimits& limits = {});

}  // namespace berth

// The module tree of a GGUF model by the names that its tensors have in the file: for files that
// are not mapped to a family of transformers. Internal to planner/model.
#pragma once

#include <optional>
#include <string>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/gguf/layers.h"

namespace berth {

// Every dot of a name stands for a module: "blk.3.attn_q.weight" is the parameter `weight` of the
// module "blk.3.attn_q". Modules stand in the order in which they run: embeddings, encoders and
// towers, layers, norm, head. A head that is tied to the embedding, as llama.cpp has it where there
// is no output.weight, is a module of its own. `architecture` becomes the model type. Throws Error
// where `dtype` asks for floats of a block format that cannot be decoded.
ModelTree gguf_tree(const Checkpoint& checkpoint, const std::string& architecture,
                    const GgufLayers& layers, std::optional<DType> dtype);

}  // namespace berth

// What llama.cpp's rules have to know of the tensors of a tree, told by their names.
#pragma once

#include <optional>

#include "berth/model.h"
#include "planner/model/precision/gguf_mix.h"
#include "planner/model/precision/matrices.h"
#include "planner/model/tree/config.h"

namespace berth {

// What the rules ask of the whole model. `config` may be null: then heads are counted from shapes.
GgufModel gguf_model(const ModelTree& tree, const ModelConfig* config);

// What a tensor of these names is for. Outside of blocks only the embedding and the head count;
// `tied`: one tensor is both.
GgufRole gguf_role(const ModelTree& tree, const ModelTensor& tensor, bool tied);

// How a tensor that is not quantised is stored: F32, or the 16 bits that the model has.
enum class GgufFloat : std::uint8_t { kNotFloat, kWide, kHalf };
// kNotFloat for one that is quantised: a matrix that is no router, no table of positions and none
// of the small ones that llama-quantize leaves out.
GgufFloat gguf_float(const ModelTensor& tensor, const std::optional<Matrix>& matrix);

// Whether the tree has no output of its own, so that the embedding is also the output.
bool has_tied_head(const ModelTree& tree);

}  // namespace berth

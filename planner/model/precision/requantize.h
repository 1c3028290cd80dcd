// The tree of a model as it would be in another precision: what a plan of weights that nobody has
// made yet is made from.
#pragma once

#include "berth/model.h"
#include "planner/model/precision/precision.h"
#include "planner/model/tree/config.h"

namespace berth {

// `tree` as `precision`, which must be made anew, stores it. A scheme takes the linear weights of
// the blocks, experts included, and leaves embeddings, head, norms, routers and the towers of
// pictures and sound in 16 bits. A mix gives each tensor the type that llama-quantize gives it.
// Tensors no longer know a checkpoint, names and modules stay, and a note says what was assumed.
// `config` may be null. Throws Error where the weights are packed and their shapes are not known,
// and where there is nothing to quantise.
ModelTree requantize(const ModelTree& tree, const Precision& precision, const ModelConfig* config);

// Whether weights of the tree are stored in anything but plain floats.
bool is_quantized(const ModelTree& tree);

}  // namespace berth

// Whether a model can be computed with its weights as they are stored.
#pragma once

#include <string>

#include "berth/model.h"
#include "runtime/program/family.h"

namespace berth {

/// Whether some weights, as they will be loaded, are in formats that only the kernels of this
/// project compute with: packed ones, or plain ones of several dtypes beside each other.
bool needs_own_kernels(const ModelTree& tree);

/// Empty where a compiled program can compute with all weights of the model as they will be loaded;
/// else what is in the way, naming the tensor: "tensor \"lm_head.weight\" is IQ2_XXS, which has no
/// kernel here". Looks at the tree alone.
std::string why_not_as_stored(const ModelTree& tree, const Family& family);

}  // namespace berth

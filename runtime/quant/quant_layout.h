// Where each packed value of a quantised weight belongs, and which scale belongs to it.
#pragma once

#include <cstdint>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "cuda/dequant.h"

namespace berth {

// The layout by which the kernels dequantise `tensor` of `tree`, whose packed values are tensor
// `source` of `checkpoint`. It follows from the weight's scheme and shape in the model; of what is
// stored only dtypes are looked at. Throws Error naming the tensor where there is no kernel for its
// format.
QuantLayout quant_layout(const ModelTree& tree, TensorId tensor, std::uint32_t source,
                         const Checkpoint& checkpoint);

// How many scales the layout reaches: the largest number of one, plus one.
std::uint64_t count_scales(const QuantLayout& layout);

// The code of values that are stored in 8 bits each as `dtype`.
QuantCode byte_code(DType dtype);

}  // namespace berth

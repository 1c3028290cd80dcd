// Linear attention by the gated delta rule, one position after another (Yang, Kautz and
// Hatamizadeh, "Gated Delta Networks", arXiv 2412.06464), as transformers' GatedDeltaNet computes
// it.
#pragma once

#include <ATen/core/Tensor.h>

#include "runtime/exec/operations.h"
#include "runtime/exec/placed.h"

namespace berth {

// What a layer with linear attention keeps of a sequence between two passes.
struct LinearState {
  Placed inputs;  // of the convolution: [channels, kernel], the newest last
  Placed state;   // [value heads, key dim, value dim], in float32

  std::uint64_t bytes() const { return inputs.value.nbytes() + state.value.nbytes(); }
};

// Computes the linear attention of a layer for new positions, [positions, width of the stream], and
// its output projection. The first call makes the states, on the device of the layer's first
// projection.
Placed linear_attention(Operations& operations, const LayerRecipe& layer, const Placed& input,
                        LinearState& kept);

}  // namespace berth

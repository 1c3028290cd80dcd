// A short convolution over positions in the place of attention (LFM2).
#pragma once

#include "runtime/exec/operations.h"
#include "runtime/exec/placed.h"

namespace berth {

// Computes the convolution of a layer for new positions, [positions, width of the stream], and its
// output projection. `kept` are the inputs of the last positions, [channels, kernel], the newest
// last; the first call makes them, on the device of the layer's first projection.
Placed short_convolution(Operations& operations, const LayerRecipe& layer, const Placed& input,
                         Placed& kept);

}  // namespace berth

// From the planner's element types to the formats of the cast kernels.
#pragma once

#include "berth/tensor.h"
#include "cuda/cast.h"

namespace berth {

// The cast kernels' name for a float type. Throws Error for a type that they do not know.
FloatFormat float_format(DType dtype);

}  // namespace berth

// Element types as the cast kernels name them.
#pragma once

#include "berth/tensor.h"
#include "cuda/cast.h"

namespace berth {

// The cast kernels' name of a float type; throws Error for other types.
FloatFormat float_format(DType dtype);

}  // namespace berth

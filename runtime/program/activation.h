// Activation functions of feed-forward blocks: those of the kernels, and one that is made of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

enum class Activation : std::uint8_t {
  kSilu,
  kGelu,
  kGeluTanh,
  kRelu,
  kReluSquared,
  kXielu  // with numbers that are learned, so it is a step of its own (xielu.h)
};

/// out = activation(x), times `up` where that is not null; not of kXielu. `out` may be `x`.
void activate(Activation activation, const float* x, const float* up, std::size_t count,
              float* out);

}  // namespace berth

// Activations as integers: see activations.h.
#pragma once

#include <cstdint>

namespace berth {

/// What is left of an activation, half a step at most, in so many parts fits a signed byte.
constexpr float kRestParts = 254;

/// The least scale: below it, the reciprocal may be infinite. The least normal number.
constexpr float kLeastActivationScale = 1.17549435e-38F;

/// 32 neighbouring activations of one position. With 8 bits activation i is scale x low[i], with 16
/// scale x (256 high[i] + low[i]), with 24 that plus rest_scale x rest[i].
struct ActivationBlock {
  float scale;
  float rest_scale;
  float total;  // the sum of the activations
  // Minus the bias of the weights' codes (tiles.h) times the sum of the integers that share a scale
  // of the weights: of all 32, or of 0 to 15 and of 16 to 31. Sums of products begin with it.
  std::int32_t offsets[2];
  std::int32_t rest_offsets[2];
  std::int8_t high[32];
  std::int8_t low[32];
  std::int8_t rest[32];
};

}  // namespace berth

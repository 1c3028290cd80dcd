// What stands between the products of a model: norms, activation functions, rotary embedding.
// Everything is in f32, on the caller's thread, one row at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/loops.h"

namespace berth {

/// out = x / sqrt(mean(x^2) + epsilon) * weight, for `width` elements (Zhang and Sennrich, "Root
/// mean square layer normalization", arXiv 1910.07467). `out` may be `x`.
void rms_norm(const float* x, const float* weight, std::size_t width, float epsilon, float* out,
              const InstructionSet& set = instruction_set());

/// out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias (Ba, Kiros and Hinton, "Layer
/// normalization", arXiv 1607.06450). `out` may be `x`.
void layer_norm(const float* x, const float* weight, const float* bias, std::size_t width,
                float epsilon, float* out, const InstructionSet& set = instruction_set());

enum class Gate : std::uint8_t {
  kSilu,      // x / (1 + e^-x)
  kGelu,      // x times the normal distribution's share below x
  kGeluTanh,  // the same by its approximation with tanh
  kRelu,
};

/// out = gate(x), times `up` where that is not null. `out` may be either.
void activate(Gate gate, const float* x, const float* up, std::size_t count, float* out,
              const InstructionSet& set = instruction_set());

/// 1 / (1 + e^-x)
float sigmoid(float x);

/// The clamped gate of gpt-oss, whose inputs are pairs of a gate and of what it lets through:
///   out[i] = gate sigmoid(alpha gate) (1 + up)
/// with gate = min(pairs[2i], limit), and up = pairs[2i + 1] between -limit and limit. A NaN stays.
struct ClampedGate {
  float alpha = 0;  // not zero
  float limit = 0;
};
void activate_pairs(const ClampedGate& gate, const float* pairs, std::size_t count, float* out,
                    const InstructionSet& set = instruction_set());

/// Rotates pairs of dimensions: i and i + half, for i below `half`, by the angles whose cosines and
/// sines are given (Su et al., "RoFormer", arXiv 2104.09864, with the halves as transformers lays
/// them). Further dimensions stay as they are.
void rotate(const float* cosine, const float* sine, std::size_t half, float* head);
/// The same with other pairs: 2i and 2i + 1.
void rotate_neighbours(const float* cosine, const float* sine, std::size_t half, float* head);

}  // namespace berth

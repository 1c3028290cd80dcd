#include "runtime/kernels/elementwise.h"

#include <algorithm>
#include <cmath>

namespace berth {

void rms_norm(const float* x, const float* weight, std::size_t width, float epsilon, float* out,
              const InstructionSet& set) {
  set.rms_norm({x, weight, nullptr, width, epsilon, out});
}

void layer_norm(const float* x, const float* weight, const float* bias, std::size_t width,
                float epsilon, float* out, const InstructionSet& set) {
  set.layer_norm({x, weight, bias, width, epsilon, out});
}

void activate(Gate gate, const float* x, const float* up, std::size_t count, float* out,
              const InstructionSet& set) {
  set.activate({gate, x, up, count, out});
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

void activate_pairs(const ClampedGate& gate, const float* pairs, std::size_t count, float* out,
                    const InstructionSet& set) {
  // gate sigmoid(alpha gate) = silu(alpha gate) / alpha
  constexpr std::size_t kAtOnce = 64;
  float scaled[kAtOnce], up[kAtOnce];
  for (std::size_t begin = 0; begin < count; begin += kAtOnce) {
    const std::size_t number = std::min(kAtOnce, count - begin);
    for (std::size_t i = 0; i < number; ++i) {
      const float* const pair = pairs + 2 * (begin + i);
      // Comparisons with a NaN are false, and the NaN is kept.
      const float opened = pair[0] > gate.limit ? gate.limit : pair[0];
      const float below = pair[1] > gate.limit ? gate.limit : pair[1];
      const float let = below < -gate.limit ? -gate.limit : below;
      scaled[i] = gate.alpha * opened;
      up[i] = (let + 1) / gate.alpha;
    }
    activate(Gate::kSilu, scaled, up, number, out + begin, set);
  }
}

void rotate(const float* cosine, const float* sine, std::size_t half, float* head) {
  for (std::size_t i = 0; i < half; ++i) {
    const float first = head[i];
    const float second = head[half + i];
    head[i] = first * cosine[i] - second * sine[i];
    head[half + i] = second * cosine[i] + first * sine[i];
  }
}

void rotate_neighbours(const float* cosine, const float* sine, std::size_t half, float* head) {
  for (std::size_t i = 0; i < half; ++i) {
    const float first = head[2 * i];
    const float second = head[2 * i + 1];
    head[2 * i] = first * cosine[i] - second * sine[i];
    head[2 * i + 1] = second * cosine[i] + first * sine[i];
  }
}

}  // namespace berth

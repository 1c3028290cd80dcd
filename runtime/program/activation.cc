#include "runtime/program/activation.h"

#include "runtime/kernels/elementwise.h"

namespace berth {
namespace {

Gate gate_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return Gate::kSilu;
    case Activation::kGelu:
      return Gate::kGelu;
    case Activation::kGeluTanh:
      return Gate::kGeluTanh;
    case Activation::kRelu:
    case Activation::kReluSquared:
    case Activation::kXielu:
      break;
  }
  return Gate::kRelu;
}

}  // namespace

void activate(Activation activation, const float* x, const float* up, std::size_t count,
              float* out) {
  if (activation != Activation::kReluSquared) {
    activate(gate_of(activation), x, up, count, out);
    return;
  }
  activate(Gate::kRelu, x, nullptr, count, out);
  for (std::size_t i = 0; i < count; ++i) out[i] *= up != nullptr ? out[i] * up[i] : out[i];
}

}  // namespace berth

// The loops of norms and activation functions, compiled once for each instruction set: see
// product_loops.h.
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_math.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// The elements from `at` on as a vector: 16 of them, or `left` and zeros.
BERTH_INLINE Floats load_some(const float* from, std::size_t left) {
  if (left >= kLanes) return load<Floats>(from);
  Floats out{};
  std::memcpy(&out, from, left * sizeof(float));
  return out;
}
BERTH_INLINE void store_some(Floats values, float* to, std::size_t left) {
  std::memcpy(to, &values, (left >= kLanes ? kLanes : left) * sizeof(float));
}

BERTH_INLINE Floats gated(Gate gate, Floats x) {
  switch (gate) {
    case Gate::kSilu:
      return x / (1.0F + exp_of(-x));
    case Gate::kGelu: {
      Floats out;
      for (int i = 0; i < kLanes; ++i) {
        out[i] = 0.5F * x[i] * (1.0F + ::erff(x[i] * 0.70710678118654752F));
      }
      return out;
    }
    case Gate::kGeluTanh: {
      // 1 + tanh(y) = 2 / (1 + e^-2y)
      const Floats y = 0.79788456080286536F * (x + 0.044715F * x * x * x);
      return x / (1.0F + exp_of(-2.0F * y));
    }
    case Gate::kRelu:
      break;
  }
  return x > 0.0F || x != x ? x : Floats{};
}

}  // namespace

void BERTH_LOOPS(rms_norm)(const NormJob& job) {
  Floats squares{};
  for (std::size_t i = 0; i < job.width; i += kLanes) {
    const Floats x = load_some(job.x + i, job.width - i);
    squares = fma(x, x, squares);
  }
  const float mean = sum_of(squares) / static_cast<float>(job.width);
  const float scale = 1.0F / __builtin_sqrtf(mean + job.epsilon);
  for (std::size_t i = 0; i < job.width; i += kLanes) {
    const std::size_t left = job.width - i;
    store_some(load_some(job.x + i, left) * scale * load_some(job.weight + i, left), job.out + i,
               left);
  }
}

void BERTH_LOOPS(layer_norm)(const NormJob& job) {
  Floats sums{};
  for (std::size_t i = 0; i < job.width; i += kLanes) sums += load_some(job.x + i, job.width - i);
  const float mean = sum_of(sums) / static_cast<float>(job.width);
  Floats squares{};
  for (std::size_t i = 0; i < job.width; i += kLanes) {
    const std::size_t left = job.width - i;
    Floats x = load_some(job.x + i, left) - mean;
    if (left < kLanes) {  // what was filled up is not minus the mean
      for (std::size_t j = left; j < kLanes; ++j) x[j] = 0;
    }
    squares = fma(x, x, squares);
  }
  const float variance = sum_of(squares) / static_cast<float>(job.width);
  const float scale = 1.0F / __builtin_sqrtf(variance + job.epsilon);
  for (std::size_t i = 0; i < job.width; i += kLanes) {
    const std::size_t left = job.width - i;
    const Floats x = (load_some(job.x + i, left) - mean) * scale;
    store_some(x * load_some(job.weight + i, left) + load_some(job.bias + i, left), job.out + i,
               left);
  }
}

void BERTH_LOOPS(activate)(const ActivateJob& job) {
  for (std::size_t i = 0; i < job.count; i += kLanes) {
    const std::size_t left = job.count - i;
    Floats x = gated(job.gate, load_some(job.x + i, left));
    if (job.up != nullptr) x *= load_some(job.up + i, left);
    store_some(x, job.out + i, left);
  }
}

}  // namespace berth

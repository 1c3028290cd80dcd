// The loop that makes integers of activations, compiled once for each instruction set: see
// product_loops.h. All sets give the bits of quantize_reference().
#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

BERTH_INLINE Floats absolute(Floats x) {
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7FFFFFFF);
}

constexpr float kRound = 12582912.0F;  // 1.5 x 2^23: what is added to it is rounded to a whole

BERTH_INLINE Ints whole(Floats rounded) { return reinterpret_cast<Ints>(rounded) - 0x4B400000; }

// Divides 16 values among the planes of `block`, from element `at` on. Returns the sums of the
// integers.
struct PlaneSums {
  std::int32_t whole;
  std::int32_t rest;
};
BERTH_INLINE PlaneSums put_planes(const QuantizeJob& job, Floats x, float inverse,
                                  ActivationBlock& block, int at) {
  const Floats scaled = x * inverse;
  const Floats most = broadcast(job.limit);
  const Floats above = scaled > -most ? scaled : -most;
  const Floats inside = above < most ? above : most;
  const Floats rounded = inside + kRound;
  const Ints q = whole(rounded);
  const Ints lowest = (q << 24) >> 24;
  store_bytes(lowest, block.low + at);
  store_bytes((q - lowest) >> 8, block.high + at);
  if (!job.rests) return {sum_of(q), 0};
  const Ints rest = whole((inside - (rounded - kRound)) * kRestParts + kRound);
  store_bytes(rest, block.rest + at);
  return {sum_of(q), sum_of(rest)};
}

BERTH_INLINE void quantize_block(const QuantizeJob& job, const float* values,
                                 ActivationBlock& block) {
  const Floats first = load<Floats>(values);
  const Floats second = load<Floats>(values + kLanes);
  std::memset(&block, 0, sizeof block);
  // Zero times what is no number is none.
  const float nothing = sum_of(first * 0.0F + second * 0.0F);
  if (nothing != 0) {
    block.scale = block.total = __builtin_nanf("");
    return;
  }
  const Floats a = absolute(first), b = absolute(second);
  block.scale = greatest_of(a > b ? a : b) / job.limit;
  if (block.scale < kLeastActivationScale) {
    block.scale = 0;
    return;
  }
  const float inverse = 1 / block.scale;
  if (job.rests) block.rest_scale = block.scale / kRestParts;
  const PlaneSums a_sums = put_planes(job, first, inverse, block, 0);
  const PlaneSums b_sums = put_planes(job, second, inverse, block, kLanes);
  const std::int32_t sum = a_sums.whole + b_sums.whole;
  const std::int32_t rest = a_sums.rest + b_sums.rest;
  block.total = block.scale * static_cast<float>(sum) + block.rest_scale * static_cast<float>(rest);
  const bool halves = job.scaled < 32;
  block.offsets[0] = -job.bias * (halves ? a_sums.whole : sum);
  block.offsets[1] = halves ? -job.bias * b_sums.whole : 0;
  block.rest_offsets[0] = -job.bias * (halves ? a_sums.rest : rest);
  block.rest_offsets[1] = halves ? -job.bias * b_sums.rest : 0;
}

}  // namespace

void BERTH_LOOPS(quantize)(const QuantizeJob& job) {
  for (std::size_t i = 0; i < job.count; ++i) {
    quantize_block(job, job.values + 32 * i, job.out[i]);
  }
}

}  // namespace berth

// Attention in half precision against the same in float64: finite wherever the result is.
#include "runtime/exec/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>

namespace berth {
namespace {

constexpr std::int64_t kHeads = 4, kKvHeads = 2, kPositions = 6, kHeadDim = 16;

// Values between -1 and 1 times `size`, the same for the same seed.
at::Tensor made(std::int64_t heads, double size, double seed) {
  const at::Tensor index = at::arange(heads * kPositions * kHeadDim, at::kDouble);
  return (((index + seed) * 1.7).sin() * size).reshape({heads, kPositions, kHeadDim});
}

// What attention is: computed in float64, for all positions at once.
at::Tensor reference(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const AttentionOptions& options) {
  const auto wide = [](const at::Tensor& tensor) {
    return tensor.to(at::kDouble).repeat_interleave(kHeads / tensor.size(0), 0);
  };
  at::Tensor scores = at::bmm(wide(query), wide(key).transpose(1, 2)) * options.scale;
  if (options.softcap > 0) scores = (scores / options.softcap).tanh() * options.softcap;
  const at::Tensor position = at::arange(kPositions, at::kLong);
  at::Tensor hidden = position.unsqueeze(0).gt(position.unsqueeze(1));
  if (options.window > 0) {
    const auto window = static_cast<std::int64_t>(options.window);
    hidden = hidden.logical_or(position.unsqueeze(0).le(position.unsqueeze(1) - window));
  }
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::bmm(at::softmax(scores, -1), wide(value));
}

// All positions at once, or one after another.
at::Tensor attended(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    const AttentionOptions& options, bool at_once) {
  KvCache cache;
  const auto window = static_cast<std::int64_t>(options.window);
  const std::int64_t kept = window > 0 ? window : kPositions;
  const std::int64_t step = at_once ? kPositions : 1;
  at::Tensor result = at::empty_like(query);
  for (std::int64_t begin = 0; begin < kPositions; begin += step) {
    const auto part = [&](const at::Tensor& tensor) {
      return Placed{tensor.narrow(1, begin, step), 0};
    };
    cache.append(part(key), part(value), {kept, std::nullopt});
    result.narrow(1, begin, step).copy_(cache.attend(part(query), options).value);
  }
  return result;
}

void expect_close(at::ScalarType dtype, double size, const AttentionOptions& options,
                  double tolerance) {
  const at::Tensor query = made(kHeads, size, 0).to(dtype);
  const at::Tensor key = made(kKvHeads, size, 5).to(dtype);
  const at::Tensor value = made(kKvHeads, 1, 9).to(dtype);
  const at::Tensor wanted = reference(query, key, value, options);
  for (const bool at_once : {true, false}) {
    const at::Tensor found = attended(query, key, value, options, at_once).to(at::kDouble);
    EXPECT_LE((found - wanted).abs().max().item<double>(), tolerance) << at_once;
  }
}

TEST(Attention, IsThatOfFloat64) {
  for (const std::uint64_t window : {0u, 3u}) {
    expect_close(at::kFloat, 2, {0.25, 0, window}, 1e-5);
    expect_close(at::kFloat, 2, {0.25, 2, window}, 1e-5);
    expect_close(at::kHalf, 2, {0.25, 0, window}, 2e-3);
    expect_close(at::kBFloat16, 2, {0.25, 0, window}, 2e-2);
  }
}

// float16 ends at 65,504: these products reach 8 x 300 x 300, and a quarter of that once scaled.
// Scores of that size are known to some hundredths in float32.
TEST(Attention, IsFiniteInHalfPrecisionWhereProductsAreLargerThanItHolds) {
  for (const std::uint64_t window : {0u, 3u}) {
    expect_close(at::kHalf, 300, {1e-5, 0, window}, 2e-3);
    expect_close(at::kHalf, 300, {0.25, 0, window}, 5e-2);
  }
}

}  // namespace
}  // namespace berth

// The KV cache: what it keeps, and that attention over it is attention over everything that is
// seen.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "berth/error.h"
#include "runtime/exec/attention.h"
#include "runtime/exec/plain_errors.h"
#include "tests/error_of.h"

namespace berth {
namespace {

constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kDim = 4;

Placed made(std::int64_t positions) { return {at::randn({kHeads, positions, kDim}), 0}; }

// Attention of the last `count` positions, by its definition.
at::Tensor slow(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                std::int64_t window) {
  const std::int64_t count = query.size(1);
  const std::int64_t past = keys.size(1) - count;
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t end = past + i + 1;
    const std::int64_t low = window > 0 ? std::max<std::int64_t>(0, end - window) : 0;
    const at::Tensor seen = keys.narrow(1, low, end - low);
    const at::Tensor scores = at::bmm(query.narrow(1, i, 1), seen.transpose(1, 2));
    rows.push_back(at::bmm(at::softmax(scores, -1), values.narrow(1, low, end - low)));
  }
  return at::cat(rows, 1);
}

// A prompt, then one position after another.
void expect_attention(std::int64_t prompt, std::int64_t more, std::int64_t window) {
  KvCache cache;
  at::Tensor keys;
  at::Tensor values;
  const std::int64_t all = prompt + more;
  for (std::int64_t done = 0; done < all;) {
    const std::int64_t count = done == 0 ? prompt : 1;
    const Placed key = made(count), value = made(count), query = made(count);
    keys = done == 0 ? key.value : at::cat({keys, key.value}, 1);
    values = done == 0 ? value.value : at::cat({values, value.value}, 1);
    cache.append(key, value, {window > 0 ? std::min(window, all) : all, {}});
    const Placed got = cache.attend(query, {1, 0, static_cast<std::uint64_t>(window)});
    EXPECT_TRUE(got.value.allclose(slow(query.value, keys, values, window), 1e-4, 1e-5))
        << "prompt " << prompt << ", position " << done << ", window " << window;
    done += count;
  }
}

TEST(KvCache, AttendsToAllThatIsSeenWhateverItKeeps) {
  for (const std::int64_t window : {0, 1, 2, 5, 8, 100}) {
    for (const std::int64_t prompt : {1, 4, 5, 6, 13}) expect_attention(prompt, 14, window);
  }
}

// Values that are the beginnings of keys are attended to as if they were kept apart.
TEST(KvCache, KeepsOfALatentNothingButTheLatent) {
  KvCache latents, apart;
  const auto value_of = [](const Placed& latent) {
    return Placed{latent.value.narrow(2, 0, kDim - 2).contiguous(), latent.device};
  };
  for (const std::int64_t count : {5, 1, 1, 3}) {
    const Placed latent{made(count).value.narrow(0, 0, 1), 0};
    const Placed query = made(count);
    latents.append_latent(latent, kDim - 2, {10, {}});
    apart.append(latent, value_of(latent), {10, {}});
    const at::Tensor found = latents.attend(query, {0.5, 0, 0}).value;
    EXPECT_TRUE(found.allclose(apart.attend(query, {0.5, 0, 0}).value, 1e-5, 1e-6));
    EXPECT_EQ(found.size(2), kDim - 2);
  }
  EXPECT_EQ(latents.bytes(), 10u * kDim * 4);
}

// A sink takes its share of the softmax, and gives nothing.
TEST(KvCache, GivesSinksTheirShare) {
  KvCache cache, plain;
  const Placed key = made(6), value = made(6), query = made(6);
  cache.append(key, value, {6, {}});
  plain.append(key, value, {6, {}});
  const at::Tensor sinks = at::arange(kHeads, at::kFloat);
  AttentionOptions options{1, 0, 0};
  const at::Tensor without = plain.attend(query, options).value;
  options.sinks = sinks;
  const at::Tensor found = cache.attend(query, options).value;
  for (std::int64_t head = 0; head < kHeads; ++head) {
    for (std::int64_t row = 0; row < 6; ++row) {
      const at::Tensor scores =
          at::matmul(key.value[head].narrow(0, 0, row + 1), query.value[head][row]);
      const double total = scores.exp().sum().item<double>();
      const double share = total / (total + std::exp(static_cast<double>(head)));
      EXPECT_TRUE(found[head][row].allclose(without[head][row] * share, 1e-4, 1e-5));
    }
  }
}

TEST(KvCache, KeepsNoMoreThanTheWindow) {
  KvCache cache;
  cache.append(made(50), made(50), {8, at::kBFloat16});
  EXPECT_EQ(cache.bytes(), 2u * kHeads * 8 * kDim * 2);
  cache.attend(made(50), {1, 0, 8});
  for (int i = 0; i < 20; ++i) {
    cache.append(made(1), made(1), {8, at::kBFloat16});
    cache.attend(made(1), {1, 0, 8});
  }
  EXPECT_EQ(cache.bytes(), 2u * kHeads * 8 * kDim * 2);
  EXPECT_EQ(cache.positions(), 70);
}

// libtorch's own text goes on with kilobytes of stack.
TEST(PlainErrors, AreOneLine) {
  const at::Tensor narrow = at::randn({1, 2, 3});
  const std::string said =
      testing::error_of([&] { with_plain_errors([&] { at::bmm(narrow, narrow); }); });
  EXPECT_TRUE(said.starts_with("computing failed: ")) << said;
  EXPECT_LT(said.size(), 300u);
  EXPECT_EQ(said.find('\n'), std::string::npos);
  EXPECT_EQ(testing::error_of([] { with_plain_errors([] { throw Error("ours"); }); }), "ours");
}

}  // namespace
}  // namespace berth

// The KV cache: what it keeps, and that attention over it is attention over everything that is
// seen.
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include <algorithm>
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

// Attention over a cache against the formula, for every cache format and instruction set.
#include "runtime/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tests/instance_share.h"

namespace berth {
namespace {

constexpr CacheFormat kFormats[] = {CacheFormat::kF32,  CacheFormat::kF16,    CacheFormat::kBF16,
                                    CacheFormat::kQ8_0, CacheFormat::kF8E4M3, CacheFormat::kF8E5M2};
constexpr const char* kNames[] = {"F32", "F16", "BF16", "Q8_0", "F8_E4M3", "F8_E5M2"};

struct Shape {
  std::size_t kv_heads, group, key_dim, value_dim, capacity;
};

std::vector<float> random_floats(std::size_t count, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values) value = std::normal_distribution<float>()(random);
  return values;
}

class Cache {
 public:
  Cache(CacheFormat format, const Shape& shape)
      : keys_(shape.capacity * shape.kv_heads * cache_vector_bytes(format, shape.key_dim)),
        values_(shape.capacity * shape.kv_heads * cache_vector_bytes(format, shape.value_dim)),
        view_{format,         shape.kv_heads, shape.key_dim, shape.value_dim,
              shape.capacity, keys_.data(),   values_.data()} {}

  void append(std::size_t position, std::mt19937& random) {
    for (std::size_t head = 0; head < view_.kv_heads; ++head) {
      store_vector(view_.format, random_floats(view_.key_dim, random), view_.key(position, head));
      store_vector(view_.format, random_floats(view_.value_dim, random),
                   view_.value(position, head));
    }
  }
  const CacheView& view() const { return view_; }

 private:
  std::vector<std::byte> keys_;
  std::vector<std::byte> values_;
  CacheView view_;
};

class Attention : public ::testing::TestWithParam<int> {
 protected:
  CacheFormat format() const { return kFormats[GetParam()]; }
  std::vector<Shape> shapes() const {
    const bool q8 = format() == CacheFormat::kQ8_0;
    if (kInstanceShare > 1) return {{2, 3, q8 ? 32u : 20u, q8 ? 64u : 12u, 90}};
    if (q8) return {{2, 3, 32, 64, 210}, {1, 1, 64, 64, 140}};
    return {{2, 3, 20, 12, 210}, {1, 4, 64, 64, 140}, {3, 1, 16, 48, 90}};
  }
  std::mt19937 random_{23};
  ThreadTeam team_{2};
  std::vector<float> space_;
};

TEST_P(Attention, IsTheFormulaOnEveryInstructionSet) {
  for (const Shape& shape : shapes()) {
    Cache cache(format(), shape);
    const std::size_t held = shape.capacity - 10;
    for (std::size_t p = 0; p < held; ++p) cache.append(p, random_);
    const std::size_t heads = shape.kv_heads * shape.group;
    const std::vector<float> sinks = random_floats(heads, random_);
    for (const std::size_t count : {std::size_t{1}, std::size_t{5}, std::size_t{70}, held}) {
      const auto queries = random_floats(count * heads * shape.key_dim, random_);
      for (const std::size_t window : {0, 1, 37, 100}) {
        for (const bool sink : {false, true}) {
          for (const float softcap : {0.0F, 2.0F}) {
            const AttentionSettings settings{heads, 0.3F, softcap, window,
                                             sink ? sinks.data() : nullptr};
            std::vector<float> expected(count * heads * shape.value_dim), found(expected.size());
            attend_reference(cache.view(), settings, held - count, count, queries.data(),
                             expected.data());
            for (const InstructionSet& set : instruction_sets()) {
              if (!set.supported()) continue;
              std::fill(found.begin(), found.end(), NAN);
              attend(cache.view(), settings, held - count, count, queries.data(),
                     heads * shape.key_dim, found.data(), space_, team_, set);
              for (std::size_t i = 0; i < expected.size(); ++i) {
                ASSERT_NEAR(found[i], expected[i], 4e-6 * (1 + std::fabs(expected[i])))
                    << set.name << ", " << count << " queries, window " << window << ", cap "
                    << softcap << ", element " << i;
              }
            }
          }
        }
      }
    }
  }
}

// Of a cache with a window, the newest positions have taken the place of the oldest.
TEST_P(Attention, OfAWindowNeedsNoMorePlacesThanTheWindow) {
  Shape whole = shapes()[0], ring = whole;
  ring.capacity = 37;
  Cache all(format(), whole), last(format(), ring);
  const std::size_t heads = whole.kv_heads * whole.group;
  const AttentionSettings settings{heads, 0.5F, 0, 37, nullptr};
  std::mt19937 again = random_;
  for (std::size_t p = 0; p < 150; ++p) {
    all.append(p, random_);
    last.append(p, again);
    std::vector<float> wide(heads * whole.value_dim), narrow(wide.size());
    std::mt19937 other(static_cast<unsigned>(p));
    const auto query = random_floats(heads * whole.key_dim, other);
    attend(all.view(), settings, p, 1, query.data(), query.size(), wide.data(), space_, team_);
    attend(last.view(), settings, p, 1, query.data(), query.size(), narrow.data(), space_, team_);
    ASSERT_EQ(wide, narrow) << p;
  }
}

TEST_P(Attention, OfAPositionDependsOnNothingElse) {
  const Shape shape = shapes()[0];
  Cache cache(format(), shape);
  const std::size_t held = shape.capacity, heads = shape.kv_heads * shape.group;
  for (std::size_t p = 0; p < held; ++p) cache.append(p, random_);
  const auto queries = random_floats(held * heads * shape.key_dim, random_);
  const AttentionSettings settings{heads, 0.4F, 0, 90, nullptr};
  ThreadTeam alone(1), three(3);
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    std::vector<float> together(held * heads * shape.value_dim), one(heads * shape.value_dim);
    attend(cache.view(), settings, 0, held, queries.data(), heads * shape.key_dim, together.data(),
           space_, three, set);
    for (std::size_t p = 0; p < held; ++p) {
      attend(cache.view(), settings, p, 1, queries.data() + p * heads * shape.key_dim, 0,
             one.data(), space_, alone, set);
      ASSERT_TRUE(std::equal(one.begin(), one.end(), together.begin() + p * one.size()))
          << set.name << ", position " << p;
    }
  }
}

// As latent attention has it: one KV head for many heads, whose pieces differ with the threads.
TEST_P(Attention, TakesValuesFromTheBeginningsOfKeys) {
  const bool q8 = format() == CacheFormat::kQ8_0;
  const Shape shape{1, 40, q8 ? 96u : 27u, q8 ? 64u : 18u, 80};
  Cache cache(format(), shape);
  std::vector<float> key(shape.key_dim);
  for (std::size_t p = 0; p < shape.capacity; ++p) {
    cache.append(p, random_);
    load_vector(format(), cache.view().key(p, 0), key);
    store_vector(format(), std::span(key).first(shape.value_dim), cache.view().value(p, 0));
  }
  CacheView latent = cache.view();
  latent.values = nullptr;
  const AttentionSettings settings{shape.group, 0.2F, 0, 0, nullptr};
  ThreadTeam alone(1), five(5);
  for (const std::size_t count : {std::size_t{1}, std::size_t{40}}) {
    const auto queries = random_floats(count * shape.group * shape.key_dim, random_);
    const std::size_t stride = shape.group * shape.key_dim;
    const std::size_t first = shape.capacity - count;
    std::vector<float> apart(count * shape.group * shape.value_dim), found(apart.size());
    attend(cache.view(), settings, first, count, queries.data(), stride, apart.data(), space_,
           alone);
    for (ThreadTeam* team : {&alone, &five}) {
      attend(latent, settings, first, count, queries.data(), stride, found.data(), space_, *team);
      EXPECT_EQ(found, apart) << team->size() << " threads";
    }
    attend_reference(latent, settings, first, count, queries.data(), found.data());
    for (std::size_t i = 0; i < apart.size(); ++i) ASSERT_NEAR(found[i], apart[i], 1e-5);
  }
}

TEST_P(Attention, OverCachedVectorsThatAreNoNumbersIsNone) {
  const Shape shape = shapes()[0];
  Cache cache(format(), shape);
  for (std::size_t p = 0; p < 10; ++p) cache.append(p, random_);
  std::vector<float> key(shape.key_dim, 1);
  key[3] = NAN;
  store_vector(format(), key, cache.view().key(4, 0));
  const std::size_t heads = shape.kv_heads * shape.group;
  const AttentionSettings settings{heads, 1, 0, 0, nullptr};
  const auto queries = random_floats(heads * shape.key_dim, random_);
  std::vector<float> out(heads * shape.value_dim);
  attend(cache.view(), settings, 9, 1, queries.data(), 0, out.data(), space_, team_);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_TRUE(std::isfinite(out.back())) << "of the other KV head";
}

INSTANTIATE_TEST_SUITE_P(Formats, Attention, ::testing::Range(0, 6),
                         [](const auto& test) { return std::string(kNames[test.param]); });

// Every F8 number is itself; what lies between two becomes the nearer one, ties the even one; what
// is too large becomes the largest.
TEST(CacheFormats, RoundToTheNearestF8) {
  for (const CacheFormat format : {CacheFormat::kF8E4M3, CacheFormat::kF8E5M2}) {
    const int largest = format == CacheFormat::kF8E4M3 ? 0x7E : 0x7B;
    float below = 0;
    for (int bits = 0; bits <= largest; ++bits) {
      const auto byte = static_cast<std::byte>(bits);
      float value = -1;
      load_vector(format, &byte, std::span(&value, 1));
      std::byte back{};
      store_vector(format, std::span(&value, 1), &back);
      ASSERT_EQ(back, byte) << bits;
      if (bits > 0) {
        ASSERT_GT(value, below);
        const float half = (below + value) / 2;
        const float samples[] = {std::nextafter(half, 0.0F), half, std::nextafter(half, value)};
        const int expected[] = {bits - 1, bits - bits % 2, bits};
        for (int i = 0; i < 3; ++i) {
          store_vector(format, std::span(&samples[i], 1), &back);
          EXPECT_EQ(static_cast<int>(back), expected[i]) << bits << ", sample " << i;
          const float negative = -samples[i];
          store_vector(format, std::span(&negative, 1), &back);
          EXPECT_EQ(static_cast<int>(back), expected[i] | 0x80) << bits << ", sample " << i;
        }
      }
      below = value;
    }
    EXPECT_EQ(below, format == CacheFormat::kF8E4M3 ? 448 : 57344);
    std::byte back{};
    const float infinity = INFINITY;
    store_vector(format, std::span(&infinity, 1), &back);
    EXPECT_EQ(static_cast<int>(back), largest);
  }
}

}  // namespace
}  // namespace berth

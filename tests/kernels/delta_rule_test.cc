// The gated delta rule against the formula, for every instruction set, and the promise that a
// prompt may be divided anywhere.
#include "runtime/kernels/delta_rule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace berth {
namespace {

constexpr LinearHeads kShapes[] = {{2, 4, 16, 16}, {1, 3, 20, 70}, {3, 3, 5, 64}, {1, 2, 24, 3}};

// Random inputs of `count` positions: keys and queries are of length one, as layers have them.
struct Sequence {
  Sequence(const LinearHeads& heads, std::size_t count, std::mt19937& random) {
    const std::size_t width = 2 * heads.keys() + heads.values() + 5;
    rows.resize(count * width);
    for (float& x : rows) x = std::normal_distribution<float>()(random);
    for (std::size_t p = 0; p < count; ++p) {
      for (std::size_t head = 0; head < 2 * heads.key_heads; ++head) {
        float* const x = rows.data() + p * width + head * heads.key_dim;
        float sum = 0;
        for (std::size_t i = 0; i < heads.key_dim; ++i) sum += x[i] * x[i];
        for (std::size_t i = 0; i < heads.key_dim; ++i) x[i] /= std::sqrt(sum);
      }
    }
    for (std::size_t i = 0; i < count * heads.value_heads; ++i) {
      decay.push_back(std::uniform_real_distribution<float>(0.2F, 1)(random));
      strength.push_back(std::uniform_real_distribution<float>(0, 1)(random));
    }
    inputs = {count, rows.data(), width, decay.data(), strength.data()};
  }
  // The positions from `first` on.
  DeltaInputs part(const LinearHeads& heads, std::size_t first, std::size_t count) const {
    return {count, rows.data() + first * inputs.stride, inputs.stride,
            decay.data() + first * heads.value_heads, strength.data() + first * heads.value_heads};
  }

  std::vector<float> rows, decay, strength;
  DeltaInputs inputs;
};

std::vector<float> random_state(const LinearHeads& heads, std::mt19937& random) {
  std::vector<float> state(heads.value_heads * heads.key_dim * heads.value_dim);
  for (float& x : state) x = std::normal_distribution<float>()(random);
  return state;
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected,
                 const std::string& where) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 2e-5 * (1 + std::fabs(expected[i]))) << where << ", " << i;
  }
}

TEST(DeltaRule, IsTheFormulaOnEveryInstructionSet) {
  std::mt19937 random(5);
  ThreadTeam team(2);
  for (const LinearHeads& heads : kShapes) {
    for (const std::size_t count : {1, 2, 33}) {
      const Sequence sequence(heads, count, random);
      const std::vector<float> start = random_state(heads, random);
      std::vector<float> expected(count * heads.values()), expected_state = start;
      delta_rule_reference(heads, sequence.inputs, expected_state.data(), expected.data());
      for (const InstructionSet& set : instruction_sets()) {
        if (!set.supported()) continue;
        std::vector<float> found(expected.size()), state = start;
        delta_rule(heads, sequence.inputs, state.data(), found.data(), team, set);
        expect_near(found, expected, set.name);
        expect_near(state, expected_state, set.name);
      }
    }
  }
}

TEST(DeltaRule, GivesTheSameBitsHoweverPositionsAndThreadsAreDivided) {
  std::mt19937 random(6);
  ThreadTeam alone(1), three(3);
  for (const LinearHeads& heads : kShapes) {
    const Sequence sequence(heads, 12, random);
    const std::vector<float> start = random_state(heads, random);
    std::vector<float> whole(12 * heads.values()), whole_state = start;
    delta_rule(heads, sequence.inputs, whole_state.data(), whole.data(), three);
    for (const InstructionSet& set : instruction_sets()) {
      if (!set.supported()) continue;
      std::vector<float> parts(whole.size()), state = start;
      for (std::size_t p = 0; p < 12; p += 4) {
        delta_rule(heads, sequence.part(heads, p, 4), state.data(),
                   parts.data() + p * heads.values(), alone, set);
      }
      EXPECT_EQ(parts, whole) << set.name;
      EXPECT_EQ(state, whole_state) << set.name;
    }
  }
}

TEST(Convolve, SumsTheRowsOfEachChannelByItsWeights) {
  const std::vector<float> weights{1, 10, 100, 2, 20, 200};  // two channels of three
  const std::vector<float> rows{1, 4, 2, 5, 3, 6};
  std::vector<float> out(2);
  convolve(weights.data(), rows.data(), 3, 2, out.data());
  EXPECT_EQ(out, (std::vector<float>{321, 2 * 4 + 20 * 5 + 200 * 6}));
}

}  // namespace
}  // namespace berth

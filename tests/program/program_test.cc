// What compiled programs compute, against transformers, with the weights on any devices. Nothing
// here needs libtorch, so sanitizers watch it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <span>
#include <string>
#include <vector>

#include "berth/error.h"
#include "planner/plan/kv_cache.h"
#include "runtime/program/compile.h"
#include "runtime/program/compiled_decoder.h"
#include "tests/data_names.h"
#include "tests/error_of.h"
#include "tests/program/made_model.h"

namespace berth::testing {
namespace {

class Programs : public ::testing::TestWithParam<std::string> {
 protected:
  Programs() : model_(open_made(GetParam())), expected_(read_expected(GetParam())) {}

  // The logits of all positions of the prompt, which is computed `at_once` positions at a time.
  std::vector<float> logits(const Where& where, std::size_t at_once) {
    const Plan plan = made_plan(model_.tree, where);
    const MadeLoad loaded(model_.tree, plan);
    const Recipe recipe = make_recipe(model_);
    EXPECT_EQ(why_not_compiled(recipe, model_, plan, loaded), "");
    const std::span<const std::int64_t> prompt(expected_.prompt);
    const auto decoder = make_compiled_decoder(recipe, model_, plan, loaded,
                                               static_cast<std::int64_t>(prompt.size()), nullptr);
    std::vector<float> all;
    for (std::size_t begin = 0; begin < prompt.size(); begin += at_once) {
      const auto part = prompt.subspan(begin, std::min(at_once, prompt.size() - begin));
      const std::span<const float> last = decoder->forward(part, [&](std::span<const float> rows) {
        all.insert(all.end(), rows.begin(), rows.end());
      });
      EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - decoder->logits_width()));
    }
    hops_ = decoder->hops();
    live_blocks_ = loaded.live_blocks_at_most();
    return all;
  }

  Model model_;
  Expected expected_;
  std::uint64_t hops_ = 0;
  std::size_t live_blocks_ = 0;
};

std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }

TEST_P(Programs, GiveTheLogitsOfTransformers) {
  const std::vector<float> found = logits(on_cpu, expected_.prompt.size());
  std::size_t at = 0;
  for (const std::vector<float>& row : expected_.logits) {
    for (const float wanted : row) {
      ASSERT_LT(at, found.size());
      ASSERT_NEAR(found[at++], wanted, 1e-4);
    }
  }
  EXPECT_EQ(at, found.size());
  EXPECT_EQ(hops_, 0u);
}

// Whether some angles of the prompt depend on how much of it is computed in one go, as they do in
// transformers.
bool depends_on_length(const Recipe& recipe, std::size_t length) {
  return std::ranges::any_of(recipe.rotaries, [&](const Rotary& rotary) {
    return rotary.trained > 0 && rotary.trained < length;
  });
}

// Whatever is computed together: the whole prompt, parts of it, or one token after another.
TEST_P(Programs, GiveTheSameBitsHoweverAPromptIsDivided) {
  const std::vector<float> whole = logits(on_cpu, expected_.prompt.size());
  const bool depends = depends_on_length(make_recipe(model_), expected_.prompt.size());
  for (const std::size_t at_once : {1, 2, 3, 7}) {
    EXPECT_EQ(logits(on_cpu, at_once) == whole, !depends) << at_once << " at a time";
  }
}

TEST_P(Programs, GiveTheSameBitsWithEveryTensorOnAnotherDeviceThanItsNeighbour) {
  const std::vector<float> whole = logits(on_cpu, 4);
  const auto scattered = [](const ModelTensor&, TensorId id) { return id % 4; };
  EXPECT_EQ(logits(scattered, 4), whole);
  EXPECT_GT(hops_, 10u);
  const auto on_disk = [](const ModelTensor&, TensorId) { return kDisk; };
  EXPECT_EQ(logits(on_disk, 4), whole);
  EXPECT_LE(live_blocks_, 2u);  // the embedding and learned positions
}

// Sequences of different lengths, in one pass and then token by token, some of which have ended.
TEST_P(Programs, GiveSequencesTheSameBitsTogetherAsAlone) {
  const Plan plan = made_plan(model_.tree, on_cpu);
  const MadeLoad loaded(model_.tree, plan);
  const Recipe recipe = make_recipe(model_);
  std::vector<std::vector<std::int64_t>> sequences(3, expected_.prompt);
  std::reverse(sequences[1].begin(), sequences[1].end());
  sequences[2].resize(2);
  const auto decoder = [&] {
    return make_compiled_decoder(recipe, model_, plan, loaded,
                                 static_cast<std::int64_t>(expected_.prompt.size() + 3), nullptr);
  };
  const std::vector<std::int64_t> more{3, 1, 2};
  std::vector<std::vector<float>> alone;
  for (const auto& ids : sequences) {
    const auto own = decoder();
    const auto first = own->forward(ids, nullptr);
    std::vector<float> logits(first.begin(), first.end());
    for (const std::int64_t& id : more) {
      const auto next = own->forward({&id, 1}, nullptr);
      logits.insert(logits.end(), next.begin(), next.end());
    }
    alone.push_back(std::move(logits));
  }
  const auto together = decoder();
  const auto width = static_cast<std::ptrdiff_t>(together->logits_width());
  const auto expect_as_alone = [&](std::span<const float> found, const std::vector<std::size_t>& of,
                                   std::ptrdiff_t step) {
    ASSERT_EQ(found.size(), of.size() * static_cast<std::size_t>(width));
    auto at = found.begin();
    for (const std::size_t sequence : of) {
      EXPECT_TRUE(std::equal(at, at + width, alone[sequence].begin() + step * width))
          << "sequence " << sequence << ", step " << step;
      at += width;
    }
  };
  std::vector<Feed> feeds;
  for (std::size_t i = 0; i < sequences.size(); ++i) feeds.push_back({i, sequences[i]});
  expect_as_alone(together->forward(feeds, nullptr), {0, 1, 2}, 0);
  for (Feed& feed : feeds) feed.ids = std::span(more).first(1);
  expect_as_alone(together->forward(feeds, nullptr), {0, 1, 2}, 1);
  feeds.erase(feeds.begin() + 1);
  for (std::size_t step = 1; step < more.size(); ++step) {
    for (Feed& feed : feeds) feed.ids = std::span(more).subspan(step, 1);
    expect_as_alone(together->forward(feeds, nullptr), {0, 2},
                    static_cast<std::ptrdiff_t>(step + 1));
  }
}

// What a run keeps of a sequence is what the plan counted: keys and values, latents, or states.
TEST_P(Programs, KeepAsManyBytesOfALayerAsThePlanCounts) {
  const Plan plan = made_plan(model_.tree, on_cpu);
  const MadeLoad loaded(model_.tree, plan);
  const Recipe recipe = make_recipe(model_);
  const ProgramWeights weights(model_.tree, plan, loaded);
  const std::size_t capacity = expected_.prompt.size() + 3;
  const Program program = compile(recipe, weights, capacity, std::nullopt);
  ThreadTeam team(1);
  Pass pass(team);
  const std::size_t count = expected_.prompt.size();
  pass.begin(expected_.prompt);
  for (const auto& step : program.body) {
    if (step->by_sequence()) pass.show({0, 0, 0, count, count});
    step->run(pass);
    pass.show_all();
  }
  Workload workload;
  workload.context = capacity;
  workload.kv_dtype = DType::kF32;
  for (std::size_t layer = 0; layer < recipe.layers.size(); ++layer) {
    std::size_t kept = 0;
    for (const auto& step : program.body) {
      if (step->layer == static_cast<std::int32_t>(layer)) kept += step->kept_bytes();
    }
    EXPECT_EQ(kept, kv_cache_bytes(model_.tree.facts.layers[layer], workload)) << layer;
    EXPECT_GT(kept, 0u) << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Programs,
                         ::testing::ValuesIn(data_names("tests/exec/data", "/expected.txt")),
                         [](const auto& family) { return family.param; });

TEST(Program, StopsWhenCancelled) {
  const Model model = open_made("llama");
  const Plan plan = made_plan(model.tree, on_cpu);
  const MadeLoad loaded(model.tree, plan);
  const Recipe recipe = make_recipe(model);
  const std::atomic<bool> cancel{true};
  const auto decoder = make_compiled_decoder(recipe, model, plan, loaded, 8, &cancel);
  const std::vector<std::int64_t> ids{1, 2};
  EXPECT_EQ(error_of([&] { decoder->forward(ids, nullptr); }), "interrupted while computing");
}

TEST(Program, LogsItsStepsByLayerAndDevice) {
  const Model model = open_made("llama");
  // The second layer is on another device.
  const Plan plan = made_plan(model.tree, [](const ModelTensor& tensor, TensorId) {
    return std::string_view(tensor.name).find("layers.1.") != std::string_view::npos ? kGpu0 : kCpu;
  });
  const MadeLoad loaded(model.tree, plan);
  const Recipe recipe = make_recipe(model);
  StepLog log;
  const auto decoder =
      make_compiled_decoder(recipe, model, plan, loaded, 300, nullptr, ActivationBits::k24, &log);
  const std::vector<std::int64_t> prompt(258, 1);
  decoder->forward(prompt, nullptr);
  decoder->forward(std::span(prompt).first(1), nullptr);

  std::vector<std::string> second_layer;
  for (const StepLog::Step& step : log.steps) {
    if (step.layer != 1) continue;
    EXPECT_EQ(step.device, kGpu0) << step.name;
    second_layer.push_back(step.name);
  }
  EXPECT_EQ(second_layer, (std::vector<std::string>{"norm", "q_proj, k_proj, v_proj", "attention",
                                                    "o_proj", "add", "norm", "gate_proj, up_proj",
                                                    "gate", "down_proj", "add"}));
  EXPECT_EQ(log.steps.front().name, "embedding");
  EXPECT_EQ(log.steps.front().layer, -1);
  EXPECT_EQ(log.steps.back().name, "lm_head");
  EXPECT_EQ(log.steps.back().layer, -1);

  ASSERT_EQ(log.passes.size(), 3u);  // 256 positions, 2, and one
  EXPECT_EQ(log.passes[0].rows, 256u);
  EXPECT_EQ(log.passes[1].rows, 2u);
  EXPECT_EQ(log.passes[2].rows, 1u);
  // The head runs for the last part of the prompt only.
  const std::size_t body = log.steps.size() - 2;
  EXPECT_EQ(log.events.size(), 3 * body + 2 * 2);
  double before = 0;
  for (const StepLog::Event& event : log.events) {
    EXPECT_LE(before, event.begin);
    EXPECT_LE(event.begin, event.end);
    before = event.end;
  }
  EXPECT_LE(log.passes[0].begin, log.events.front().begin);
  EXPECT_LE(before, log.passes[2].end);
}

TEST(StepLog, ForgetsWhatIsTooMuch) {
  StepLog log;
  log.events.resize(StepLog::kMostEvents);
  log.add(0, 0);
  EXPECT_EQ(log.events.size(), StepLog::kMostEvents);
  EXPECT_EQ(log.forgotten, 1u);
}

TEST(Program, SaysWhatItCannotComputeWith) {
  const Model model = open_made("llama");
  Plan plan = made_plan(model.tree, on_cpu);
  const MadeLoad loaded(model.tree, plan);
  const Recipe recipe = make_recipe(model);
  plan.workload.kv_dtype = DType::kI32;
  EXPECT_EQ(error_of([&] { make_compiled_decoder(recipe, model, plan, loaded, 8, nullptr); }),
            "a KV cache of I32 cannot be computed with");
  Model other = open_made("llama");
  other.tree.tensors[3].dtype = DType::kF64;
  EXPECT_EQ(
      why_not_compiled(recipe, other, plan, loaded),
      "tensor '" + std::string(other.tree.tensors[3].name) + "' is F64, which has no kernel here");
}

}  // namespace
}  // namespace berth::testing

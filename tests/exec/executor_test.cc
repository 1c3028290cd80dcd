// What run() computes, against transformers, with the weights on any devices.

#include "runtime/generate/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/model/template/complete.h"
#include "planner/model/tree/config.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/logits_file.h"
#include "runtime/kernels/loops.h"
#include "runtime/program/compiled_decoder.h"
#include "runtime/program/recipe.h"
#include "tests/data_names.h"
#include "tests/error_of.h"
#include "tests/program/made_model.h"

namespace berth::testing {
namespace {

using ::testing::ElementsAreArray;
using testing::error_of;
using ::testing::HasSubstr;

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "berth-exec-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

struct Result {
  RunReport report;
  std::vector<std::vector<float>> logits;
};

RunOptions options_for(const Expected& expected) {
  RunOptions options;
  options.prompt_ids = {expected.prompt};
  options.new_tokens = expected.greedy.size();
  options.stop_at_end_of_text = false;
  options.open_reference = [] { return &make_reference_decoder; };
  return options;
}

Result run_made(const Model& model, const Plan& plan, const LoadedModel& loaded,
                RunOptions options) {
  const Folder folder;
  options.logits_file = folder.path() / "logits.safetensors";
  Result result{run(model, plan, loaded, options), {}};
  result.logits = read_logits(*options.logits_file);
  EXPECT_EQ(folder.files(), 1u);
  return result;
}

Result run_placed(const std::string& name, const Where& where, Kernels kernels = Kernels::kOwn) {
  const Model model = open_made(name);
  const Plan plan = made_plan(model.tree, where);
  const MadeLoad loaded(model.tree, plan);
  RunOptions options = options_for(read_expected(name));
  options.kernels = kernels;
  return run_made(model, plan, loaded, options);
}

// The number of the layer that a tensor belongs to; -1 for one outside the layers.
int layer_of(const ModelTensor& tensor) {
  for (const std::string& part : {std::string(".layers."), std::string(".h.")}) {
    const auto at = tensor.name.find(part);
    if (at != std::string::npos)
      return std::stoi(std::string(tensor.name.substr(at + part.size())));
  }
  return -1;
}

// Every family, by Berth's kernels and by libtorch.
class Families : public ::testing::TestWithParam<std::tuple<std::string, Kernels>> {
 protected:
  const std::string& family() const { return std::get<0>(GetParam()); }
  Kernels kernels() const { return std::get<1>(GetParam()); }
  Result placed(const Where& where) const { return run_placed(family(), where, kernels()); }
  Result whole() const {
    return placed([](const auto&, TensorId) { return kCpu; });
  }
};

TEST_P(Families, GiveTheLogitsAndIdsOfTransformers) {
  const Expected expected = read_expected(family());
  const Result result = this->whole();
  ASSERT_EQ(result.logits.size(), expected.logits.size());
  for (std::size_t row = 0; row < expected.logits.size(); ++row) {
    ASSERT_EQ(result.logits[row].size(), expected.logits[row].size());
    for (std::size_t i = 0; i < expected.logits[row].size(); ++i) {
      EXPECT_NEAR(result.logits[row][i], expected.logits[row][i], 1e-4) << row << ", " << i;
    }
  }
  EXPECT_THAT(result.report.sequences[0].new_ids, ElementsAreArray(expected.greedy));
  EXPECT_EQ(result.report.hops, 0u);
}

TEST_P(Families, ComputeTheSameBitsWithLayersSpreadOverDevices) {
  const Result whole = this->whole();
  const auto device_of = [](int layer) { return static_cast<std::uint32_t>(layer + 1) % 3; };
  const Result spread = placed([&](const ModelTensor& tensor, TensorId) {
    return device_of(layer_of(tensor));  // 0: 0, 1: 1, 2: cpu, and so on; the rest: 0
  });
  EXPECT_EQ(spread.logits, whole.logits);
  EXPECT_EQ(spread.report.sequences[0].new_ids, whole.report.sequences[0].new_ids);
  // From the embedding to the first layer and so on, and from the last one to the head.
  const auto layers = static_cast<int>(open_made(family()).tree.facts.layers.size());
  const std::uint64_t home = device_of(layers - 1) == device_of(-1) ? 0 : 1;
  EXPECT_EQ(spread.report.hops, static_cast<std::uint64_t>(layers) + home);
}

TEST_P(Families, ComputeTheSameBitsWithEveryTensorOnAnotherDeviceThanItsNeighbour) {
  const Result whole = this->whole();
  for (const std::uint32_t shift : {0u, 1u, 2u}) {
    const Result odd = placed([&](const ModelTensor&, TensorId id) { return (id + shift) % 4; });
    EXPECT_EQ(odd.logits, whole.logits);
    EXPECT_EQ(odd.report.sequences[0].new_ids, whole.report.sequences[0].new_ids);
    EXPECT_GT(odd.report.hops, 10u);
  }
}

TEST_P(Families, RunFromTheDiskHoldingOneModuleAtATime) {
  const Model model = open_made(family());
  const Plan plan = made_plan(model.tree, [](const auto&, TensorId) { return kDisk; });
  const MadeLoad loaded(model.tree, plan);
  RunOptions options = options_for(read_expected(family()));
  options.kernels = kernels();
  const Result result = run_made(model, plan, loaded, options);
  const Result whole = this->whole();
  EXPECT_EQ(result.logits, whole.logits);
  EXPECT_EQ(result.report.sequences[0].new_ids, whole.report.sequences[0].new_ids);
  EXPECT_GT(loaded.fetched(), model.tree.facts.layers.size() * 8);
  EXPECT_LE(loaded.live_blocks_at_most(), 2u);  // a weight and its bias
}

INSTANTIATE_TEST_SUITE_P(
    Run, Families,
    ::testing::Combine(::testing::ValuesIn(data_names("tests/exec/data", "/expected.txt")),
                       ::testing::Values(Kernels::kOwn, Kernels::kReference)),
    [](const auto& test) {
      return std::get<0>(test.param) +
             (std::get<1>(test.param) == Kernels::kOwn ? "_own" : "_reference");
    });

TEST(Reference, LogsTheHalvesOfItsLayers) {
  const Model model = open_made("llama");
  const Plan plan = made_plan(model.tree, [](const ModelTensor& tensor, TensorId) {
    return layer_of(tensor) == 1 ? kGpu0 : kCpu;
  });
  const MadeLoad loaded(model.tree, plan);
  RunOptions options = options_for(read_expected("llama"));
  options.kernels = Kernels::kReference;
  options.new_tokens = 3;
  StepLog log;
  options.log = &log;
  run(model, plan, loaded, options);
  const std::size_t layers = model.tree.decoder_layers();
  ASSERT_EQ(log.steps.size(), 2 + 2 * layers);
  EXPECT_EQ(log.events.size(), 3 * log.steps.size());
  EXPECT_EQ(log.passes.size(), 3u);
  EXPECT_EQ(log.steps[3].name, "attention");
  EXPECT_EQ(log.steps[4].name, "feed-forward");
  EXPECT_EQ(log.steps[4].layer, 1);
  EXPECT_EQ(log.steps[4].device, kGpu0);
  EXPECT_EQ(log.steps.back().name, "head");
  EXPECT_EQ(log.steps.back().device, kCpu);
}

TEST(OwnKernels, SayWhyTheyCannotCompute) {
  const Model model = open_made("llama");
  const Plan plan = made_plan(model.tree, [](const auto&, TensorId) { return kCpu; });
  const MadeLoad loaded(model.tree, plan);
  RunOptions options = options_for(read_expected("llama"));
  EXPECT_EQ(run(model, plan, loaded, options).kernels, instruction_set().name);
  options.kernels = Kernels::kReference;
  EXPECT_EQ(run(model, plan, loaded, options).kernels, "libtorch: asked for");
}

// One model on the CPU, for tests that do not depend on the family.
class Executor : public ::testing::Test {
 protected:
  explicit Executor(const std::string& name = "mistral")
      : model_(open_made(name)),
        plan_(made_plan(model_.tree, [](const auto&, TensorId) { return kCpu; })),
        loaded_(model_.tree, plan_),
        expected_(read_expected(name)),
        options_(options_for(expected_)) {}

  RunReport go() const { return run(model_, plan_, loaded_, options_); }
  std::string error() const {
    return error_of([this] { go(); });
  }
  void set_config(const std::string& from, const std::string& to) {
    std::ifstream in(model_.path);
    std::string json{std::istreambuf_iterator<char>(in), {}};
    const auto at = json.find(from);
    ASSERT_NE(at, std::string::npos);
    model_.config = std::make_shared<const ModelConfig>(
        complete_config(ModelConfig::parse(json.replace(at, from.size(), to), "config.json")));
  }

  Model model_;
  Plan plan_;
  MadeLoad loaded_;
  Expected expected_;
  RunOptions options_;
};

TEST_F(Executor, GivesTheSameIdsOneByOneAsFromALongerPrompt) {
  std::vector<std::int64_t>& ids = options_.prompt_ids[0];
  ids.insert(ids.end(), expected_.greedy.begin(), expected_.greedy.begin() + 4);
  options_.new_tokens = 4;
  EXPECT_THAT(go().sequences[0].new_ids,
              ElementsAreArray(expected_.greedy.begin() + 4, expected_.greedy.end()));
}

TEST_F(Executor, ComputesThePromptAloneWhereNoNewTokenIsAskedFor) {
  options_.new_tokens = 0;
  const Result result = run_made(model_, plan_, loaded_, options_);
  EXPECT_TRUE(result.report.sequences[0].new_ids.empty());
  EXPECT_EQ(result.logits.size(), expected_.prompt.size());
}

TEST_F(Executor, StopsAtTheEndOfTextOnlyWhereAskedTo) {
  set_config("\"eos_token_id\": 2", "\"eos_token_id\": [63, 31]");
  EXPECT_EQ(go().sequences[0].new_ids.size(), expected_.greedy.size());
  options_.stop_at_end_of_text = true;
  EXPECT_THAT(go().sequences[0].new_ids, ElementsAreArray({5, 31}));
  set_config("\"eos_token_id\": 2", "\"eos_token_id\": 5");
  EXPECT_THAT(go().sequences[0].new_ids, ElementsAreArray({5}));
}

TEST_F(Executor, LetsTheGenerationConfigSayWhereTextEnds) {
  const Folder folder;
  std::ofstream(folder.path() / "generation_config.json") << R"({"eos_token_id": [31]})";
  model_.path = folder.path();
  options_.stop_at_end_of_text = true;
  EXPECT_THAT(go().sequences[0].new_ids, ElementsAreArray({5, 31}));
}

TEST_F(Executor, RefusesPromptsThatCannotBeRun) {
  options_.prompt_ids = {};
  EXPECT_THAT(error(), HasSubstr("prompt is empty"));
  options_.prompt_ids = {{1, 64}};
  EXPECT_THAT(error(), HasSubstr("prompt id 64 at position 1 is outside the model's vocabulary"));
  options_.prompt_ids = {{-1}};
  EXPECT_THAT(error(), HasSubstr("prompt id -1"));
  options_.prompt_ids = {std::vector<std::int64_t>(12, 1)};
  options_.new_tokens = 29;
  EXPECT_THAT(error(), HasSubstr("12 tokens and 29 new ones are more than the model's 40"));
  options_.new_tokens = 28;
  EXPECT_EQ(go().sequences[0].new_ids.size(), 28u);
}

TEST_F(Executor, SaysBeforeWeightsAreLoadedThatItCannotRun) {
  EXPECT_NO_THROW(check_run(model_, options_));
  options_.prompt_ids = {{64}};
  EXPECT_THROW(check_run(model_, options_), Error);
  options_.prompt_ids = {{1}};
  set_config("\"mistral\"", "\"mamba\"");
  EXPECT_THROW(check_run(model_, options_), Error);
}

TEST_F(Executor, KeepsToTheWorkloadOfItsPlan) {
  const std::uint64_t positions = check_run(model_, options_);
  EXPECT_EQ(positions, expected_.prompt.size() + expected_.greedy.size() - 1);
  plan_.workload.context = positions;
  EXPECT_EQ(go().sequences[0].new_ids, expected_.greedy);
  EXPECT_NO_THROW(check_workload(plan_, options_, positions));
  plan_.workload.context = positions - 1;
  const std::string needed = std::to_string(positions) +
                             " positions of KV cache, and the plan has " +
                             std::to_string(positions - 1) + ": plan with --context";
  EXPECT_THAT(error(), HasSubstr(needed));
  EXPECT_THROW(check_workload(plan_, options_, positions), Error);
  plan_.workload = {};
  options_.prompt_ids.push_back({1});
  EXPECT_THAT(error(), HasSubstr("for 1 sequences at once, and there are 2 prompts: plan with "
                                 "--batch 2"));
  options_.prompt_ids.pop_back();
  plan_.workload.kv_dtype = DType::kQ4_0;
  EXPECT_THAT(error(), HasSubstr("in q4_0, which a run cannot do: plan with --kv-dtype float32, "
                                 "float16, bfloat16, q8_0, fp8 or fp8_e5m2"));
  plan_.workload.kv_dtype = DType::kF8E4M3;
  EXPECT_EQ(error(), "no error");
  options_.kernels = Kernels::kReference;
  EXPECT_THAT(error(), HasSubstr("in float8_e4m3fn, which a run cannot do"));
}

// Several sequences, one of them twice because the plan is for more than there are prompts.
TEST_F(Executor, GivesSequencesTheSameIdsTogetherAsAlone) {
  options_.prompt_ids.push_back({3, 9, 1});
  plan_.workload.batch = 3;
  set_config("\"eos_token_id\": 2", "\"eos_token_id\": 31");
  options_.stop_at_end_of_text = true;
  for (const Kernels kernels : {Kernels::kOwn, Kernels::kReference}) {
    options_.kernels = kernels;
    const RunReport together = go();
    ASSERT_EQ(together.sequences.size(), 3u);
    EXPECT_EQ(together.sequences[2].new_ids, together.sequences[0].new_ids);
    for (std::size_t i = 0; i < 2; ++i) {
      RunOptions alone = options_;
      alone.prompt_ids = {options_.prompt_ids[i]};
      Plan plan = plan_;
      plan.workload.batch = 1;
      const RunReport report = run(model_, plan, loaded_, alone);
      EXPECT_EQ(together.sequences[i].new_ids, report.sequences[0].new_ids);
      EXPECT_EQ(together.sequences[i].prompt_ids, options_.prompt_ids[i]);
    }
  }
  EXPECT_THAT(go().sequences[0].new_ids, ElementsAreArray({5, 31}));
  options_.logits_file = "logits";
  EXPECT_THAT(error(), HasSubstr("takes those of one prompt, and there are 2"));
}

// A model without a window, so that the prompt's own keys are read from the cache, too.
class LlamaExecutor : public Executor {
 protected:
  LlamaExecutor() : Executor("llama") {}
};

TEST_F(LlamaExecutor, KeepsTheCacheInTheDtypeOfThePlan) {
  const Result exact = run_made(model_, plan_, loaded_, options_);
  plan_.workload.kv_dtype = DType::kF32;
  EXPECT_EQ(run_made(model_, plan_, loaded_, options_).logits, exact.logits);
  plan_.workload.kv_dtype = DType::kBF16;
  const Result rounded = run_made(model_, plan_, loaded_, options_);
  EXPECT_NE(rounded.logits, exact.logits);
  for (std::size_t row = 0; row < exact.logits.size(); ++row) {
    for (std::size_t i = 0; i < exact.logits[row].size(); ++i) {
      EXPECT_NEAR(rounded.logits[row][i], exact.logits[row][i], 0.1);
    }
  }
}

TEST_F(Executor, NeedsATokenizerForText) {
  options_.prompt_ids = {};
  options_.prompts = {"Hello"};
  EXPECT_THAT(error(), HasSubstr("tokenizer.json: missing"));
}

TEST_F(Executor, NamesTheModelsItCanRunWhereItCannotRunOne) {
  set_config("\"mistral\"", "\"mamba\"");
  EXPECT_THAT(error(), HasSubstr("model_type 'mamba' cannot be run (these can: gpt2, llama, "));
}

TEST_F(Executor, RefusesConfigFieldsWithEffectsItDoesNotCompute) {
  set_config("\"rope_type\": \"default\"", "\"rope_type\": \"proportional\"");
  EXPECT_THAT(error(), HasSubstr("rope_type: 'proportional' cannot be run"));
  set_config("\"vocab_size\": 64", "\"vocab_size\": 64, \"hidden_act\": \"mish\"");
  EXPECT_THAT(error(), HasSubstr("hidden_act: 'mish' cannot be run"));
  const std::string size = "\"vocab_size\": 64";
  set_config(size, size + ", \"hidden_act\": \"xielu\"");
  EXPECT_THAT(error(), HasSubstr("hidden_act: 'xielu' cannot be run"));
  set_config(size, size + ", \"is_causal\": false");
  EXPECT_THAT(error(), HasSubstr("is_causal: false cannot be run"));
  set_config(size, size + ", \"per_layer_config\": {\"1\": {\"sliding_window\": 2}}");
  EXPECT_THAT(error(), HasSubstr("per_layer_config: settings of single layers cannot be run"));
}

// What a config.json of a family asks for, and the error that says so before weights are read.
TEST(FamiliesConfigs, AreRefusedWhereTheyAskForWhatIsNotComputed) {
  const auto error_for = [](const std::string& config) {
    const Folder folder;
    std::ofstream(folder.path() / "config.json") << config;
    const Model model = open_model(folder.path() / "config.json", std::nullopt);
    return error_of([&] { make_recipe(model); });
  };
  const std::string falcon = R"({"model_type": "falcon", "num_hidden_layers": 1, )";
  EXPECT_THAT(error_for(falcon + R"("alibi": true})"), HasSubstr("alibi: true cannot be run"));
  EXPECT_THAT(error_for(falcon + R"("new_decoder_architecture": true, "parallel_attn": false})"),
              HasSubstr("parallel_attn: false cannot be run with new_decoder_architecture"));
  EXPECT_THAT(error_for(falcon + R"("num_ln_in_parallel_attn": 2})"),
              HasSubstr("new_decoder_architecture: must be true where each block has a norm"));
  const std::string phimoe = R"({"model_type": "phimoe", "num_hidden_layers": 1, )";
  EXPECT_THAT(error_for(phimoe + R"("num_experts_per_tok": 3})"),
              HasSubstr("num_experts_per_tok: 3 cannot be run: its router picks 2"));
  EXPECT_THAT(error_for(phimoe + R"("rope_scaling": {"rope_type": "linear", "factor": 2.0}})"),
              HasSubstr("rope_type: 'linear' cannot be run (default and longrope can)"));
  for (const char* family : {"apertus", "cwm", "gpt_oss", "ministral3"}) {
    EXPECT_THAT(error_for(R"({"model_type": ")" + std::string(family) + R"("})"),
                HasSubstr("rope_type: missing, and transformers' default for " +
                          std::string(family) + " is not computed"));
  }
}

TEST(ExecutorHeads, RefusesAModelThatGivesNoLogitsOfTokens) {
  const Folder folder;
  for (const char* cls : {"MistralModel", "MistralForSequenceClassification"}) {
    std::ofstream(folder.path() / "config.json")
        << R"({"model_type": "mistral", "num_hidden_layers": 1, "architectures": [")" << cls
        << "\"]}";
    const Model model = open_model(folder.path() / "config.json", std::nullopt);
    RunOptions options;
    options.prompt_ids = {{1}};
    EXPECT_THAT(error_of([&] { check_run(model, options); }),
                HasSubstr("architectures: '" + std::string(cls) + "' has no head"));
  }
}

TEST_F(Executor, SaysHowQuantisedWeightsCanBeRun) {
  model_.tree.quantization = "GPTQ 4-bit";
  model_.tree.tensors[3].dtype = DType::kI32;
  EXPECT_THAT(error(), HasSubstr("GPTQ 4-bit weights cannot be run as they are stored (tensor '" +
                                 std::string(model_.tree.tensors[3].name) +
                                 "' is I32, which has no kernel here); --dequantize, or --dtype, "
                                 "makes plain ones of them"));
}

TEST_F(Executor, RefusesDtypesThatCannotBeComputedWith) {
  model_.tree.tensors[3].dtype = DType::kF8E4M3;
  EXPECT_THAT(error(),
              HasSubstr("tensor '" + std::string(model_.tree.tensors[3].name) + "' is F8_E4M3"));
}

TEST_F(Executor, SaysThatLogitsAreNotNumbers) {
  loaded_.set_first(0, std::nanf(""));
  options_.prompt_ids = {{0}};
  EXPECT_THAT(error(), HasSubstr("not numbers"));
}

TEST_F(Executor, StopsWhenCancelledAndLeavesNoLogitsFile) {
  const Folder folder;
  options_.logits_file = folder.path() / "logits.safetensors";
  const std::atomic<bool> cancel{true};
  options_.cancel = &cancel;
  EXPECT_THAT(error(), HasSubstr("interrupted"));
  EXPECT_EQ(folder.files(), 0u);
}

TEST_F(Executor, NamesALogitsFileThatCannotBeWritten) {
  options_.logits_file = "/nowhere/logits.safetensors";
  EXPECT_THAT(error(), HasSubstr("/nowhere/logits.safetensors: cannot be written"));
}

TEST(BFloat16, ComputesInItsDtypeNearFloat32) {
  Model model = open_made("llama");
  for (ModelTensor& tensor : model.tree.tensors) {
    if (!tensor.buffer) tensor.dtype = DType::kBF16;
  }
  const Plan plan = made_plan(model.tree, [](const auto&, TensorId) { return kCpu; });
  const MadeLoad loaded(model.tree, plan);
  const Expected expected = read_expected("llama");
  const Result result = run_made(model, plan, loaded, options_for(expected));
  float largest = 0;
  for (std::size_t row = 0; row < expected.logits.size(); ++row) {
    for (std::size_t i = 0; i < expected.logits[row].size(); ++i) {
      largest = std::max(largest, std::abs(result.logits[row][i] - expected.logits[row][i]));
    }
  }
  EXPECT_LT(largest, 0.1F);
  EXPECT_GT(largest, 1e-4F);  // it was not computed in float32
}

TEST(LogitsFile, IsNotThereUntilItIsFinished) {
  const Folder folder;
  const auto path = folder.path() / "logits.safetensors";
  const std::vector<float> row{1, 2, 3};
  {
    LogitsFile file(path, 2, 3);
    file.append(row);
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(folder.files(), 0u);
  LogitsFile file(path, 2, 3);
  file.append(row);
  file.append(row);
  file.finish();
  EXPECT_EQ(read_logits(path), (std::vector<std::vector<float>>{row, row}));
}

TEST(Rotary, BlendsTheFrequenciesOfLlama3BetweenLongAndShortWaves) {
  const Model model = open_made("llama3");
  const Rotary rotary = make_rotary(*model.config, *make_recipe(model).family, 8, "");
  // Wavelengths are 10^i x 2 pi positions. Frequencies of those over 16 are divided by eight, and
  // those under 4 are kept.
  ASSERT_EQ(rotary.inverse_frequency.size(), 4u);
  const float smooth = (16 / (2 * static_cast<float>(M_PI)) - 1) / 3;
  EXPECT_FLOAT_EQ(rotary.inverse_frequency[0], (1 - smooth) / 8 + smooth);
  EXPECT_FLOAT_EQ(rotary.inverse_frequency[1], 0.1F / 8);
  EXPECT_FLOAT_EQ(rotary.inverse_frequency[2], 0.01F / 8);
  EXPECT_FLOAT_EQ(rotary.inverse_frequency[3], 0.001F / 8);
}

}  // namespace
}  // namespace berth::testing

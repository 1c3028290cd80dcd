// --dequantize as a user meets it: what is planned is what is loaded, and a quantised model
// computes what its dequantised weights do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <fstream>
#include <iterator>
#include <random>

#include "berth/checkpoint.h"
#include "cuda/dequant.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "tests/cli/berth_process.h"
#include "tests/model/quantized_layers.h"
#include "tests/program/packed_model.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kFp8 =
    R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})";
constexpr float kScale = 0.0625f;  // of every block

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A Llama with FP8 blocks of random weights, and beside it the same with weights of bf16.
class DequantizeProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(quantised_);
    std::filesystem::create_directory(plain_);
    std::ofstream(quantised_ / "config.json") << test::small_config(kFp8);
    std::ofstream(plain_ / "config.json") << test::small_config("");
    test::write_safetensors(quantised_ / "model.safetensors",
                            test::small_tensors(test::fp8_block_layer(DType::kF32)));
    test::write_safetensors(plain_ / "model.safetensors",
                            test::small_tensors(test::plain_layer(DType::kBF16)));
    std::mt19937 random(1);
    const Checkpoint packed = open_checkpoint(quantised_);
    std::fstream to(quantised_ / "model.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
    for (const TensorInfo& info : packed.tensors) {
      std::vector<std::uint8_t> codes(info.bytes());
      // Finite FP8 of either sign, and positive bf16 below 1.
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const auto byte = static_cast<std::uint8_t>(random());
        codes[i] = info.dtype == DType::kF8E4M3 ? byte & 0xB7u : i % 2 == 0 ? byte : 0x3Du;
      }
      if (info.dtype == DType::kF32) {
        for (std::size_t i = 0; i < codes.size(); i += 4) std::memcpy(&codes[i], &kScale, 4);
      } else {
        write_plain(info, codes);
      }
      write(to, info, codes.data());
    }
  }

  static void write(std::fstream& file, const TensorInfo& info, const void* data) {
    file.seekp(static_cast<std::streamoff>(info.begin));
    file.write(static_cast<const char*>(data), static_cast<std::streamsize>(info.bytes()));
  }

  void write_plain(const TensorInfo& info, const std::vector<std::uint8_t>& codes) {
    const Checkpoint checkpoint = open_checkpoint(plain_);
    std::fstream file(plain_ / "model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    for (const TensorInfo& twin : checkpoint.tensors) {
      if (twin.name != info.name) continue;
      if (info.dtype == DType::kBF16) return write(file, twin, codes.data());
      QuantLayout layout;
      layout.rows = 1;
      layout.columns = layout.row_values = layout.group_columns = codes.size();
      std::vector<std::uint16_t> values(codes.size());
      dequantize_reference(layout, {&kScale}, codes.data(), 0, codes.size(), values.data(),
                           FloatFormat::kBF16);
      return write(file, twin, values.data());
    }
    FAIL() << info.name;
  }

  static std::uint64_t weights(const Answer& answer, const char* member) {
    simdjson::dom::parser parser;
    const auto document = parser.parse(answer.out);
    std::uint64_t sum = 0;
    if (std::string(member) == "after_load") {
      for (const auto [device, bytes] : simdjson::dom::object(document["after_load"])) {
        sum += std::uint64_t(bytes);
      }
      return sum;
    }
    for (const auto device : simdjson::dom::array(document["devices"])) {
      sum += std::uint64_t(device["weights"]);
    }
    return sum;
  }

  TemporaryFolder folder_;
  std::filesystem::path quantised_ = folder_.path() / "quantised";
  std::filesystem::path plain_ = folder_.path() / "plain";
};

TEST_F(DequantizeProcess, PlansAndLoadsTheBytesOfPlainWeights) {
  const Answer plan = berth({"plan", quantised_, "--dequantize", "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.talk;
  EXPECT_EQ(weights(plan, "weights"), 2 * test::kSmallParameters);
  const Answer load = berth({"load", quantised_, "--dequantize", "--json"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  EXPECT_EQ(weights(load, "after_load"), 2 * test::kSmallParameters);
  EXPECT_THAT(berth({"plan", quantised_, "--dequantize"}).out,
              HasSubstr("bfloat16, dequantised from FP8"));
}

TEST_F(DequantizeProcess, ChangesNothingUnlessItIsAskedFor) {
  const Answer plan = berth({"plan", quantised_, "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.talk;
  EXPECT_EQ(weights(plan, "weights"), open_checkpoint(quantised_).bytes());
}

TEST_F(DequantizeProcess, FollowsAPlanMadeWithIt) {
  const std::string saved = folder_.path() / "plan.json";
  ASSERT_EQ(berth({"plan", quantised_, "--dequantize", "--save", saved}).exit_code, 0);
  const Answer load = berth({"load", quantised_, "--plan", saved, "--json"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  EXPECT_EQ(weights(load, "after_load"), 2 * test::kSmallParameters);
}

TEST_F(DequantizeProcess, RunComputesWhatThePlainWeightsDo) {
  const auto run = [&](const std::filesystem::path& model, const std::string& logits,
                       std::vector<std::string> more) {
    std::vector<std::string> arguments{
        "run", model, "--prompt-ids", "3,17,5,80",
        "-n",  "5",   "--logits",     folder_.path() / (logits + ".logits")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return berth(arguments);
  };
  const Answer quantised = run(quantised_, "quantised", {"--dequantize"});
  const Answer plain = run(plain_, "plain", {});
  ASSERT_EQ(quantised.exit_code, 0) << quantised.talk;
  ASSERT_EQ(plain.exit_code, 0) << plain.talk;
  EXPECT_EQ(quantised.out, plain.out);
  EXPECT_EQ(read_file(folder_.path() / "quantised.logits"),
            read_file(folder_.path() / "plain.logits"));
  EXPECT_THAT(plain.talk, Not(HasSubstr("dequantised")));
  const Answer floats = run(plain_, "plain", {"--dtype", "float32"});
  for (const auto& more :
       {std::vector<std::string>{}, {"--max-memory", "0=150KiB,cpu=1GiB", "--emulate"}}) {
    const Answer kept = run(quantised_, "kept", more);
    ASSERT_EQ(kept.exit_code, 0) << kept.talk;
    EXPECT_EQ(kept.out, floats.out);
    EXPECT_THAT(kept.talk, HasSubstr("note: FP8 weights are kept quantised, in tiles of "
                                     "f8_e4m3_g128 ("));
  }
}

TEST_F(DequantizeProcess, RunKeepsThemQuantisedOrSaysWhatToDo) {
  const std::string file = folder_.path() / "deploy.yaml";
  std::ofstream(file) << "model: quantised\ndequantize: false\nrun: {prompt_ids: [1]}\n";
  const Answer kept = berth({"run", file});
  EXPECT_EQ(kept.exit_code, 0) << kept.talk;
  EXPECT_THAT(kept.talk, Not(HasSubstr("dequantised")));
  const auto int8 = folder_.path() / "int8";
  std::filesystem::create_directory(int8);
  std::ofstream(int8 / "config.json")
      << test::small_config(R"({"quant_method":"bitsandbytes","load_in_8bit":true})");
  test::write_safetensors(int8 / "model.safetensors", test::small_tensors(test::bnb8_layer()));
  std::ofstream(file) << "model: int8\ndequantize: false\nrun: {prompt_ids: [1]}\n";
  const Answer answer = berth({"run", file});
  EXPECT_EQ(answer.exit_code, 1);
  EXPECT_THAT(answer.talk, HasSubstr("weights cannot be run as they are stored (tensor "));
}

// Packed weights are run as they are stored unless asked otherwise, and say the same.
TEST_F(DequantizeProcess, RunTakesBlocksAsTheyAreStored) {
  const std::string file = folder_.path() / "model.gguf";
  PackedModel(kPackedFormats[1], false).write(file);
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"run", file, "--prompt-ids", "1,5,9,33", "-n", "6"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return berth(arguments);
  };
  const Answer stored = run({});
  ASSERT_EQ(stored.exit_code, 0) << stored.talk;
  EXPECT_THAT(stored.talk, Not(HasSubstr("note:")));
  EXPECT_THAT(stored.talk, Not(HasSubstr("libtorch")));
  const Answer plain = run({"--dtype", "float32"});
  ASSERT_EQ(plain.exit_code, 0) << plain.talk;
  EXPECT_EQ(stored.out, plain.out);
  const Answer reference = run({"--kernels", "reference", "--dtype", "float32"});
  ASSERT_EQ(reference.exit_code, 0) << reference.talk;
  EXPECT_EQ(stored.out, reference.out);
  EXPECT_THAT(reference.talk, HasSubstr("libtorch: asked for"));
  const Answer emulated = run({"--max-memory", "0=150KiB,cpu=1GiB", "--emulate"});
  ASSERT_EQ(emulated.exit_code, 0) << emulated.talk;
  EXPECT_EQ(stored.out, emulated.out);
}

}  // namespace
}  // namespace berth::testing

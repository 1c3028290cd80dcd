// What quantization_config and quantize_config.json say of GPTQ's zero points, and what keeps Berth
// from dequantising.
#include "planner/model/quant/quantize_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/planner.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dequantization.h"
#include "tests/error_of.h"
#include "tests/model/quantized_layers.h"

namespace berth {
namespace {

using namespace test;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// `body` is a JSON object's inside.
std::string gptq(const std::string& body) {
  return R"({"quant_method":"gptq","bits":4,"group_size":128)" + body + "}";
}

// The scheme of a model whose config.json has this quantization_config, and that has this
// quantize_config.json beside it; "" stands for none. It must be the same from the config alone.
QuantScheme read_scheme(const std::string& config, const std::string& beside) {
  TempFolder folder;
  write_checkpoint(folder, small_config(config), small_tensors(gptq_layer(4, 128)));
  if (!beside.empty()) folder.write("quantize_config.json", beside);
  const Model model = open_model(folder.path(), std::nullopt, Dequantize::kYes);
  const Model alone = open_model(folder / "config.json", std::nullopt, Dequantize::kYes);
  EXPECT_EQ(model.tree.quantization, "GPTQ 4-bit");
  const QuantScheme scheme = model.tree.quantized->schemes.at(0);
  if (!config.empty() || !beside.empty()) {
    EXPECT_EQ(alone.tree.quantized->schemes.at(0).zeros, scheme.zeros);
    EXPECT_EQ(alone.tree.quantized->schemes.at(0).symmetric, scheme.symmetric);
  }
  return scheme;
}

ZeroPoints zeros_of(const std::string& config, const std::string& beside = "") {
  return read_scheme(config, beside).zeros;
}

TEST(QuantizeConfig, SaysWhatZeroPointsMeanInEitherFile) {
  const std::string first = gptq(R"(,"checkpoint_format":"gptq")");
  const std::string second = gptq(R"(,"checkpoint_format":"gptq_v2")");
  EXPECT_EQ(zeros_of(gptq("")), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros_of(first), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros_of(second), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of(gptq(R"(,"format":"gptq_v2")")), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of(gptq(R"(,"format":"gptq","checkpoint_format":"GPTQ_V2")")),
            ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of("", second), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of("", first), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros_of(gptq(""), second), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of(second, gptq("")), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of(second, second), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros_of(first, second), ZeroPoints::kUnclear);
  EXPECT_EQ(zeros_of(second, first), ZeroPoints::kUnclear);
  EXPECT_EQ(zeros_of(""), ZeroPoints::kLessOne);
}

TEST(QuantizeConfig, ThatDisagreesIsNoted) {
  TempFolder folder;
  write_checkpoint(folder, small_config(gptq(R"(,"checkpoint_format":"gptq")")),
                   small_tensors(gptq_layer(4, 128)));
  folder.write("quantize_config.json", gptq(R"(,"checkpoint_format":"gptq_v2")"));
  for (const auto& path : {folder.path(), folder / "config.json"}) {
    EXPECT_THAT(
        open_model(path, std::nullopt).tree.notes,
        ElementsAre(HasSubstr("config.json and quantize_config.json name different checkpoint")));
  }
}

TEST(QuantizeConfig, NeedNotNameTheMethod) {
  EXPECT_EQ(zeros_of("", R"({"bits":4,"group_size":128,"checkpoint_format":"gptq_v2"})"),
            ZeroPoints::kAsTheyAre);
}

TEST(QuantizeConfig, SaysWhetherWeightsAreSymmetric) {
  const std::string yes = gptq(R"(,"sym":true)");
  const std::string no = gptq(R"(,"sym":false)");
  EXPECT_EQ(read_scheme(gptq(""), "").symmetric, std::nullopt);
  EXPECT_EQ(read_scheme(yes, "").symmetric, true);
  EXPECT_EQ(read_scheme("", no).symmetric, false);
  EXPECT_EQ(read_scheme(gptq(""), no).symmetric, false);
  EXPECT_EQ(read_scheme(yes, no).symmetric, std::nullopt);
}

TEST(QuantizeConfig, SaysWhichLayersAreNotSymmetric) {
  TempFolder folder;
  write_checkpoint(folder,
                   small_config(gptq(R"(,"sym":true,"dynamic":{".*self_attn.*":{"sym":false}})")),
                   small_tensors(gptq_layer(4, 128)));
  for (const auto& path : {folder.path(), folder / "config.json"}) {
    const ModelTree tree = open_model(path, std::nullopt, Dequantize::kYes).tree;
    for (const ModelTensor& tensor : tree.tensors) {
      if (tensor.dequantization == kNone) continue;
      const std::uint32_t scheme = tree.quantized->weights[tensor.dequantization].scheme;
      EXPECT_EQ(tree.quantized->schemes[scheme].symmetric,
                tensor.name.find("self_attn") == tensor.name.npos)
          << tensor.name;
    }
  }
}

TEST(QuantizeConfig, HoldsForWeightsWhoseFormIsDeduced) {
  // The config's two bits fit none of the weights.
  TempFolder folder;
  write_checkpoint(
      folder, small_config(R"({"quant_method":"auto-round","bits":2,"group_size":128,"sym":false,
        "packing_format":"auto_round","extra_config":{"lm_head":{"bits":16}}})"),
      small_tensors(gptq_layer(4, 128, false)));
  const Model model = open_model(folder.path(), std::nullopt, Dequantize::kYes);
  EXPECT_EQ(model.tree.quantized->schemes.at(0).zeros, ZeroPoints::kAsTheyAre);
  EXPECT_EQ(model.tree.quantized->schemes.at(0).symmetric, false);
}

// auto-round 0.16, inference/backend.py: GPTQ_FORMAT and GPTQ_FORMAT_NO_ZP.
TEST(QuantizeConfig, KnowsTheZeroPointsOfAutoRound) {
  const auto zeros = [](const std::string& packing) {
    TempFolder folder;
    const std::string config = R"({"quant_method":"auto-round","bits":4,"group_size":128)" +
                               (packing.empty() ? "" : R"(,"packing_format":")" + packing + '"') +
                               "}";
    write_checkpoint(folder, small_config(config), small_tensors(gptq_layer(4, 128, false)));
    open_model(folder / "config.json", std::nullopt);  // sizes are known without the checkpoint
    return open_model(folder.path(), std::nullopt, Dequantize::kYes)
        .tree.quantized->schemes.at(0)
        .zeros;
  };
  EXPECT_EQ(zeros(""), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros("auto_round:gptq"), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros("auto_round:auto_gptq"), ZeroPoints::kLessOne);
  EXPECT_EQ(zeros("auto_round"), ZeroPoints::kAsTheyAre);
  EXPECT_EQ(zeros("auto_round:gptqmodel"), ZeroPoints::kAsTheyAre);
}

TEST(QuantizeConfig, IsLeftOutWithANoteWhereItCannotBeRead) {
  TempFolder folder;
  write_checkpoint(folder, small_config(gptq("")), small_tensors(gptq_layer(4, 128)));
  folder.write("quantize_config.json", "{");
  EXPECT_THAT(
      open_model(folder.path(), std::nullopt).tree.notes,
      ElementsAre(AllOf(HasSubstr("quantize_config.json: "), HasSubstr("this file is not used"))));
  folder.write("quantize_config.json", R"({"quant_method":"awq","bits":4,"group_size":64})");
  EXPECT_THAT(open_model(folder.path(), std::nullopt).tree.notes, IsEmpty());
}

TEST(QuantizeConfig, IsNamedForAValueThatItHasNot) {
  TempFolder folder;
  write_checkpoint(folder, small_config(""), small_tensors(gptq_layer(4, 128)));
  folder.write("quantize_config.json", R"({"bits":5,"group_size":128})");
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("quantize_config.json: bits: 5 bits are not a width"));
}

std::string dequantize_error(const std::string& config, const Layer& layer) {
  TempFolder folder;
  write_checkpoint(folder, small_config(config), small_tensors(layer));
  EXPECT_EQ(open_error(folder.path()), "");  // it can be planned and loaded as it is stored
  const auto open = [&](const std::filesystem::path& path) {
    return error_of([&] { open_model(path, std::nullopt, Dequantize::kYes); });
  };
  EXPECT_EQ(open(folder.path()), open(folder / "config.json"));
  return open(folder.path());
}

TEST(Dequantising, RefusesLayoutsThatAreNotKnown) {
  EXPECT_THAT(
      dequantize_error(gptq(R"(,"checkpoint_format":"gptq_p")"), gptq_layer(4, 128)),
      HasSubstr("config.json: quantization_config.checkpoint_format: 'gptq_p' is a layout that"));
}

TEST(Dequantising, RefusesModelsWhoseActivationsAreRotated) {
  const auto compressed = [](const std::string& location) {
    return R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["lm_head"],
        "config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":4,"type":"int",
        "strategy":"group","group_size":128}}},
        "transform_config":{"config_groups":{"R4":{"type":"hadamard","apply":[
        {"targets":["down_proj"],"location":")" +
           location + R"("}]}}}})";
  };
  const char* kRotated = "activations are rotated as well as weights, which Berth cannot compute";
  EXPECT_THAT(dequantize_error(gptq(R"(,"rotation":"hadamard")"), gptq_layer(4, 128)),
              HasSubstr(kRotated));
  EXPECT_THAT(dequantize_error(compressed("input"), packed_layer(128, false, false)),
              HasSubstr(kRotated));
  EXPECT_EQ(dequantize_error(compressed("weight_input"), packed_layer(128, false, false)),
            "no error");
}

}  // namespace
}  // namespace berth

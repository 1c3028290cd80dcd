// Trees of quantised checkpoints that will be dequantised: they must be those of the unquantised
// model.
#include "planner/model/tree/dequantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/model/quantized_layers.h"

namespace berth {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kGptq = R"({"quant_method":"gptq","bits":4,"group_size":128})";
constexpr const char* kFp8 =
    R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})";

std::string error_of(const std::filesystem::path& path) {
  try {
    open_model(path, std::nullopt, Dequantize::kYes);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// For each tensor: its name, dtype in memory, shape and parameters.
std::vector<std::string> in_memory(ModelTree tree) {
  for (ModelTensor& tensor : tree.tensors) tensor.stored = tensor.dtype;
  return outline(tree);
}

std::vector<std::string> plain_outline() {
  TempFolder folder;
  write_checkpoint(folder, small_config(""), small_tensors(plain_layer(DType::kBF16)));
  return in_memory(open_model(folder.path(), std::nullopt).tree);
}

struct Case {
  const char* name;
  const char* label;
  std::string quantization;
  Layer layer;
};

class Dequantised : public testing::TestWithParam<Case> {};

TEST_P(Dequantised, TreeIsTheUnquantisedModels) {
  TempFolder folder;
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(GetParam().layer));
  const Model model = open_model(folder.path(), std::nullopt, Dequantize::kYes);
  const ModelTree alone = open_model(folder / "config.json", std::nullopt, Dequantize::kYes).tree;
  EXPECT_EQ(in_memory(model.tree), plain_outline());
  EXPECT_EQ(in_memory(alone), plain_outline());
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
  EXPECT_EQ(model.tree.bytes(), 2 * kSmallParameters);
  EXPECT_EQ(model.tree.quantization, GetParam().label);
}

TEST_P(Dequantised, WeightsKnowAllThatIsStoredForThem) {
  TempFolder folder;
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(GetParam().layer));
  const Model model = open_model(folder.path(), std::nullopt, Dequantize::kYes);
  const ModelTree alone = open_model(folder / "config.json", std::nullopt, Dequantize::kYes).tree;
  std::uint64_t stored = model.tree.ignored_bytes;
  std::uint64_t promised = model.tree.ignored_bytes;
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (tensor.persistent) stored += model.tree.stored_bytes(tensor);
  }
  for (const ModelTensor& tensor : alone.tensors) {
    if (tensor.persistent) promised += alone.stored_bytes(tensor);
  }
  EXPECT_EQ(stored, model.checkpoint->bytes());
  EXPECT_EQ(promised, stored);
  EXPECT_EQ(model.tree.quantized->weights.size(), 14u);
  EXPECT_EQ(model.tree.quantized->schemes.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Dequantised,
    testing::Values(
        Case{"Fp8Blocks", "FP8", kFp8, fp8_block_layer(DType::kF32)},
        Case{"Gptq", "GPTQ 4-bit", kGptq, gptq_layer(4, 128)},
        Case{"Awq", "AWQ 4-bit", R"({"quant_method":"awq","bits":4,"group_size":64})",
             awq_layer(64)},
        Case{"Bnb4", "bitsandbytes 4-bit",
             R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4",
                 "bnb_4bit_use_double_quant":true})",
             bnb4_layer(true)},
        Case{"Bnb8", "bitsandbytes 8-bit", R"({"quant_method":"bitsandbytes","load_in_8bit":true})",
             bnb8_layer()}),
    [](const auto& value) { return value.param.name; });

TEST(Dequantisation, TakesTheDtypeAskedForElseTheConfigs) {
  TempFolder folder;
  write_checkpoint(folder, small_config(kGptq), small_tensors(gptq_layer(4, 128)));
  for (const auto& [wanted, dtype] : {std::pair(std::optional<DType>(), DType::kBF16),
                                      std::pair(std::optional(DType::kF32), DType::kF32)}) {
    const ModelTree tree = open_model(folder.path(), wanted, Dequantize::kYes).tree;
    for (const ModelTensor& tensor : tree.tensors) {
      if (!tensor.persistent) continue;
      EXPECT_EQ(tensor.dtype, dtype) << tensor.name;
    }
  }
}

// AWQ's ScaledActivation: the plain model would miss the division.
TEST(Dequantisation, RefusesScalesThatDivideActivations) {
  TempFolder folder;
  auto tensors = small_tensors(awq_layer(64));
  tensors.push_back({"model.layers.0.mlp.act_fn.scales", DType::kF16, {512}});
  write_checkpoint(folder, small_config(R"({"quant_method":"awq","bits":4,"group_size":64})"),
                   tensors);
  EXPECT_EQ(open_error(folder.path()), "");
  EXPECT_THAT(error_of(folder.path()),
              HasSubstr("tensor 'model.layers.0.mlp.act_fn.scales' divides activations"));
}

TEST(Dequantisation, LeavesPlainCheckpointsAsTheyAre) {
  TempFolder folder;
  write_checkpoint(folder, small_config(""), small_tensors(plain_layer(DType::kBF16)));
  const ModelTree tree = open_model(folder.path(), std::nullopt, Dequantize::kYes).tree;
  EXPECT_EQ(tree.quantized, nullptr);
  EXPECT_EQ(outline(tree), outline(open_model(folder.path(), std::nullopt).tree));
}

TEST(Dequantisation, ConvertsFp8ThatHasNoScales) {
  TempFolder folder;
  write_checkpoint(folder, small_config(""), small_tensors(plain_layer(DType::kF8E4M3)));
  const ModelTree tree = open_model(folder.path(), std::nullopt, Dequantize::kYes).tree;
  EXPECT_EQ(in_memory(tree), plain_outline());
  EXPECT_EQ(tree.quantized->weights.size(), 14u);
}

TEST(Dequantisation, GoesOnFromTheFirstOfTiedWeights) {
  TempFolder folder;
  auto tensors = small_tensors(plain_layer(DType::kF8E4M3));
  tensors.pop_back();  // the head
  tensors[0].dtype = DType::kF8E4M3;
  write_checkpoint(folder, small_config("", R"(,"tie_word_embeddings":true)"), tensors);
  const ModelTree tree = open_model(folder.path(), std::nullopt, Dequantize::kYes).tree;
  const auto& group = tree.ties.at(0);
  EXPECT_NE(tree.tensors[group[1]].dequantization, kNone);
  EXPECT_EQ(tree.tensors[group[1]].dequantization, tree.tensors[group[0]].dequantization);
  EXPECT_EQ(tree.tensors[group[1]].dtype, DType::kBF16);
}

TEST(Dequantisation, RefusesByNameWhatItCannotDo) {
  TempFolder folder;
  write_checkpoint(folder, small_config(R"({"quant_method":"gptq","bits":3,"group_size":64})"),
                   small_tensors(gptq_layer(3, 64)));
  EXPECT_THAT(error_of(folder.path()),
              AllOf(HasSubstr("model.safetensors: tensor 'model.layers.0.self_attn.q_proj.qweight"),
                    HasSubstr("GPTQ 3-bit weights cannot be dequantised (2, 4 and 8 bits can)")));
  EXPECT_THAT(error_of(folder / "config.json"),
              AllOf(HasSubstr("tensor 'model.layers.0."),
                    HasSubstr("GPTQ 3-bit weights cannot be dequantised")));
}

TEST(Dequantisation, RefusesMethodsThatItDoesNotKnow) {
  TempFolder folder;
  write_checkpoint(folder, small_config(R"({"quant_method":"quip"})"),
                   small_tensors([](const std::string& name, std::uint64_t out, std::uint64_t) {
                     return std::vector<FakeTensor>{{name + ".weight", DType::kU8, {out, 7}}};
                   }));
  EXPECT_THAT(error_of(folder.path()),
              AllOf(HasSubstr("tensor 'model.layers.0.self_attn.q_proj.weight'"),
                    HasSubstr("weights of the method 'quip' cannot be dequantised")));
}

}  // namespace
}  // namespace berth

// Quantised checkpoints: a config alone gives the same tree as the files, and a weight that is not
// stored whole is refused.
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
using testing::Not;

struct Case {
  std::string name;
  std::string label;
  std::string quantization;
  Layer layer;
};

void PrintTo(const Case& value, std::ostream* out) { *out << value.name; }

std::vector<Case> cases() {
  const auto gptq = [](int bits, int group) {
    return R"({"quant_method":"gptq","bits":)" + std::to_string(bits) + R"(,"group_size":)" +
           std::to_string(group) + R"(,"desc_act":false,"sym":true})";
  };
  const auto compressed = [](const std::string& format, const std::string& weights,
                             const std::string& inputs = "null") {
    return R"({"quant_method":"compressed-tensors","format":")" + format +
           R"(","ignore":["lm_head"],"config_groups":{"group_0":{"targets":["Linear"],"weights":)" +
           weights + R"(,"input_activations":)" + inputs + "}}}";
  };
  const std::string dynamic = R"({"num_bits":8,"type":"float","dynamic":true,"strategy":"token"})";
  return {
      {"Gptq4", "GPTQ 4-bit", gptq(4, 128), gptq_layer(4, 128)},
      {"Gptq3", "GPTQ 3-bit", gptq(3, 64), gptq_layer(3, 64)},
      {"Gptq2", "GPTQ 2-bit", gptq(2, 32), gptq_layer(2, 32)},
      {"Gptq8WithoutGroups", "GPTQ 8-bit", gptq(8, -1), gptq_layer(8, 4096)},
      {"Awq", "AWQ 4-bit",
       R"({"quant_method":"awq","bits":4,"group_size":64,"version":"gemm","zero_point":true,
           "modules_to_not_convert":null})",
       awq_layer(64)},
      {"Fp8Block", "FP8",
       R"({"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic",
           "weight_block_size":[128,128]})",
       fp8_block_layer(DType::kF32)},
      {"Fp8AutoFp8", "FP8", R"({"quant_method":"fp8","activation_scheme":"dynamic"})",
       scaled_layer(DType::kF8E4M3, 0, DType::kF32)},
      {"FbgemmFp8", "FP8", R"({"quant_method":"fbgemm_fp8","modules_to_not_convert":["lm_head"]})",
       scaled_layer(DType::kF8E4M3, 1, DType::kF32)},
      {"CompressedFp8", "FP8",
       compressed("float-quantized", R"({"num_bits":8,"type":"float","strategy":"channel"})",
                  dynamic),
       scaled_layer(DType::kF8E4M3, 1, DType::kBF16)},
      {"CompressedFp8OneScale", "FP8",
       compressed("float-quantized", R"({"num_bits":8,"type":"float","strategy":"tensor"})",
                  dynamic),
       scaled_layer(DType::kF8E4M3, 0, DType::kBF16)},
      {"CompressedInt8", "INT8",
       compressed("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})",
                  R"({"num_bits":8,"type":"int","dynamic":true,"strategy":"token"})"),
       scaled_layer(DType::kI8, 1, DType::kBF16)},
      {"Packed", "compressed-tensors 4-bit",
       compressed("pack-quantized",
                  R"({"num_bits":4,"type":"int","strategy":"group","group_size":128})"),
       packed_layer(128, false, false)},
      {"PackedWithZerosAndOrder", "compressed-tensors 4-bit",
       compressed("pack-quantized", R"({"num_bits":4,"type":"int","strategy":"group",
                  "group_size":32,"symmetric":false,"actorder":"group"})"),
       packed_layer(32, true, true)},
      {"Nvfp4", "NVFP4",
       compressed("nvfp4-pack-quantized",
                  R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})",
                  R"({"num_bits":4,"type":"float","dynamic":"local","strategy":"tensor_group"})"),
       nvfp4_layer()},
      {"ModelOptNvfp4", "NVFP4",
       R"({"quant_method":"modelopt","quant_algo":"NVFP4","ignore":["lm_head"]})",
       modelopt_fp4_layer()},
      {"Bnb4", "bitsandbytes 4-bit",
       R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4",
           "bnb_4bit_use_double_quant":false,"llm_int8_skip_modules":null})",
       bnb4_layer(false)},
      {"Bnb4Nested", "bitsandbytes 4-bit",
       R"({"quant_method":"bitsandbytes","_load_in_4bit":true,"load_in_4bit":true,
           "bnb_4bit_quant_type":"nf4","bnb_4bit_use_double_quant":true,
           "llm_int8_skip_modules":["lm_head"]})",
       bnb4_layer(true)},
      {"Bnb8", "bitsandbytes 8-bit", R"({"quant_method":"bitsandbytes","load_in_8bit":true})",
       bnb8_layer()},
  };
}

class Quantised : public testing::TestWithParam<Case> {};

TEST_P(Quantised, ConfigAloneGivesTheTreeOfTheCheckpoint) {
  TempFolder folder;
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(GetParam().layer));
  const Model model = open_model(folder.path(), std::nullopt);
  const ModelTree alone = open_model(folder / "config.json", std::nullopt).tree;
  EXPECT_EQ(outline(alone), outline(model.tree));
  EXPECT_EQ(alone.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.ignored_bytes, 0u);
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
  EXPECT_EQ(alone.parameters(), kSmallParameters);
  EXPECT_EQ(model.tree.quantization, GetParam().label);
  EXPECT_EQ(alone.quantization, GetParam().label);
}

TEST_P(Quantised, EveryTensorIsReadFromItsOwnPlace) {
  TempFolder folder;
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(GetParam().layer));
  const Model model = open_model(folder.path(), std::nullopt);
  for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    const std::vector<TensorId>& owned = model.tree.modules[tensor.module].tensors;
    EXPECT_EQ(std::ranges::count(owned, id), 1) << tensor.name;
    if (!tensor.persistent) continue;
    ASSERT_LT(tensor.source, model.checkpoint->tensors.size()) << tensor.name;
    EXPECT_EQ(model.checkpoint->tensors[tensor.source].name, tensor.name);
    EXPECT_EQ(model.checkpoint->tensors[tensor.source].bytes(), tensor.bytes());
  }
}

// --dtype says in which dtype the model computes. It does not convert the parts of a quantised
// weight, nor even their float scales, because the kernels expect them as they are.
TEST_P(Quantised, DtypeConvertsOnlyWhatIsNotQuantised) {
  TempFolder folder;
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(GetParam().layer));
  const ModelTree kept = open_model(folder.path(), std::nullopt).tree;
  for (const auto& path : {folder.path(), folder / "config.json"}) {
    const ModelTree tree = open_model(path, DType::kF32).tree;
    std::uint64_t converted = 0;
    for (const ModelTensor& tensor : tree.tensors) {
      if (tensor.dtype != tensor.stored) converted += tensor.bytes();
    }
    // Converted are the embedding, the head and five norms.
    EXPECT_EQ(converted, 4u * (2 * 96 * 256 + 5 * 256));
    EXPECT_EQ(tree.bytes(), kept.bytes() + converted / 2);
  }
}

// What is stored decides if there is no quantization_config, or a method that is not known.
TEST_P(Quantised, StoredFormIsKnownWithoutItsConfig) {
  TempFolder folder;
  for (const char* quantization : {"", R"({"quant_method":"of_tomorrow"})"}) {
    write_checkpoint(folder, small_config(quantization), small_tensors(GetParam().layer));
    const Model model = open_model(folder.path(), std::nullopt);
    EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
    EXPECT_EQ(model.tree.parameters(), kSmallParameters);
    EXPECT_EQ(model.tree.quantization, GetParam().label);
  }
}

// Some layers may be stored plainly, whatever the config says.
TEST_P(Quantised, LayersMayBeStoredPlainly) {
  TempFolder folder;
  const auto pick = [](const std::string& name) {
    const bool plain = name == "lm_head" || name.find("layers.0.") != name.npos;
    return plain ? plain_layer(DType::kBF16) : GetParam().layer;
  };
  write_checkpoint(folder, small_config(GetParam().quantization), small_tensors(pick));
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
}

// Leaves out each tensor of a layer in turn. What remains must be a whole form too, or the message
// must name the missing tensor.
TEST_P(Quantised, NamesThePartThatIsMissing) {
  const std::string layer = "model.layers.1.mlp.up_proj";
  // Tensors that a reader can do without.
  const std::vector<std::string> spare = {"g_idx",         "weight_g_idx",       "weight_shape",
                                          "weight_format", "input_global_scale", "input_scale"};
  const std::vector<FakeTensor> whole = small_tensors(GetParam().layer);
  for (const FakeTensor& missing : whole) {
    if (!missing.name.starts_with(layer + ".")) continue;
    TempFolder folder;
    std::vector<FakeTensor> rest = whole;
    std::erase_if(rest, [&](const FakeTensor& tensor) { return tensor.name == missing.name; });
    write_checkpoint(folder, small_config(GetParam().quantization), rest);
    const bool optional =
        std::ranges::find(spare, missing.name.substr(layer.size() + 1)) != spare.end();
    const std::string error = open_error(folder.path());
    if (optional) {
      EXPECT_EQ(error, "") << missing.name;
    } else {
      EXPECT_THAT(error, AllOf(HasSubstr(layer), Not(HasSubstr("\n")))) << missing.name;
    }
  }
}

// Gives each tensor of a layer in turn one row, or one element, too many.
TEST_P(Quantised, NamesThePartOfAWrongShape) {
  const std::string layer = "model.layers.0.self_attn.o_proj";
  const std::vector<FakeTensor> whole = small_tensors(GetParam().layer);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (!whole[i].name.starts_with(layer + ".") || whole[i].shape.empty()) continue;
    if (whole[i].name.find("quant_state") != std::string::npos)
      continue;  // a text may have any length
    TempFolder folder;
    std::vector<FakeTensor> tensors = whole;
    ++tensors[i].shape[0];
    write_checkpoint(folder, small_config(GetParam().quantization), tensors);
    EXPECT_THAT(open_error(folder.path()), HasSubstr(layer)) << whole[i].name;
  }
}

TEST_P(Quantised, RefusesATensorThatIsNoPartOfTheWeight) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(GetParam().layer);
  tensors.push_back({"model.layers.0.self_attn.o_proj.surprise", DType::kF32, {3}});
  write_checkpoint(folder, small_config(GetParam().quantization), tensors);
  EXPECT_THAT(open_error(folder.path()), HasSubstr("o_proj.surprise'"));
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(All, Quantised, testing::ValuesIn(cases()), case_name);

constexpr const char* kGptq = R"({"quant_method":"gptq","bits":4,"group_size":128})";

TEST(QuantisedErrors, SayWhatAndWhere) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(gptq_layer(4, 128));
  std::erase_if(tensors, [](const FakeTensor& tensor) {
    return tensor.name == "model.layers.0.mlp.up_proj.scales";
  });
  write_checkpoint(folder, small_config(kGptq), tensors);
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("the checkpoint lacks tensor 'model.layers.0.mlp.up_proj.scales' [2, 512], "
                        "a part of the GPTQ 4-bit weight 'model.layers.0.mlp.up_proj.weight' "
                        "[512, 256]"));
}

TEST(QuantisedErrors, NameAMissingWeightInItsQuantisedForm) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(gptq_layer(4, 128));
  std::erase_if(tensors, [](const FakeTensor& tensor) {
    return tensor.name.starts_with("model.layers.1.mlp.up_proj.");
  });
  write_checkpoint(folder, small_config(kGptq), tensors);
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("lacks tensor 'model.layers.1.mlp.up_proj.qweight' [32, 512], which"));
}

// [n] may stand for [n, 1], but [1, n] is the transpose.
TEST(QuantisedErrors, RefuseARowWhereAColumnIsAskedFor) {
  const auto error_with = [](const std::string& config, const Layer& layer, const std::string& name,
                             const Shape& shape) {
    TempFolder folder;
    auto tensors = small_tensors(layer);
    for (FakeTensor& tensor : tensors) {
      if (tensor.name == name) tensor.shape = shape;
    }
    write_checkpoint(folder, small_config(config), tensors);
    return open_error(folder.path());
  };
  const std::string fbgemm =
      R"({"quant_method":"fbgemm_fp8","modules_to_not_convert":["lm_head"]})";
  const Layer rows = scaled_layer(DType::kF8E4M3, 1, DType::kF32);
  for (const char* layer : {"model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"}) {
    const std::string name = std::string(layer) + ".weight_scale";
    for (const std::string& config : {fbgemm, std::string()}) {
      EXPECT_EQ(error_with(config, rows, name, {256}), "");
      EXPECT_THAT(error_with(config, rows, name, {1, 256}),
                  AllOf(HasSubstr("tensor '" + name + "' has shape [1, 256]"),
                        HasSubstr("asks for [256, 1]")));
    }
  }
  const std::string weight = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_THAT(error_with(R"({"quant_method":"bitsandbytes","load_in_4bit":true})",
                         bnb4_layer(false), weight, {1, 32768}),
              AllOf(HasSubstr("tensor '" + weight + "' has shape [1, 32768]"),
                    HasSubstr("asks for [32768, 1]")));
}

TEST(Quantization, DeducesTilesOfWeightsThatAreOneTileWide) {
  TempFolder folder;
  std::vector<FakeTensor> tensors;
  const std::string config = R"({"model_type":"llama","hidden_size":128,"intermediate_size":384,
      "num_hidden_layers":1,"num_attention_heads":2,"vocab_size":96})";
  folder.write("config.json", config);
  for (const ModelTensor& tensor : open_model(folder / "config.json", std::nullopt).tree.tensors) {
    if (!tensor.persistent) continue;
    const std::string name(tensor.name);
    const bool linear = name.find("_proj.") != name.npos;
    tensors.push_back({name, linear ? DType::kF8E4M3 : DType::kBF16, tensor.shape});
    if (!linear) continue;
    tensors.push_back({name + "_scale_inv",
                       DType::kF32,
                       {(tensor.shape[0] + 127) / 128, (tensor.shape[1] + 127) / 128}});
  }
  write_checkpoint(folder, config, tensors);
  EXPECT_EQ(open_model(folder.path(), std::nullopt).tree.quantization, "FP8");
}

TEST(QuantisedErrors, NameTheGroupSizeOfTheConfig) {
  TempFolder folder;
  write_checkpoint(folder, small_config(kGptq), small_tensors(gptq_layer(4, 64)));
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr("model.safetensors: tensor 'model.layers.0.self_attn.q_proj.qzeros' "
                              "has shape [4, 32]"),
                    HasSubstr("asks for [2, 32]"), HasSubstr("config.json")));
}

TEST(QuantisedErrors, RefuseFp8WithoutScales) {
  TempFolder folder;
  write_checkpoint(folder, small_config(R"({"quant_method":"fp8","weight_block_size":[128,128]})"),
                   small_tensors(plain_layer(DType::kF8E4M3)));
  EXPECT_THAT(open_error(folder.path()),
              HasSubstr("lacks tensor 'model.layers.0.self_attn.q_proj.weight_scale_inv' [2, 2]"));
}

TEST(QuantisedErrors, RefuseScalesBesideAPlainWeight) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(plain_layer(DType::kBF16));
  tensors.push_back({"model.layers.0.mlp.up_proj.weight_scale", DType::kF32, {1}});
  write_checkpoint(folder, small_config(""), tensors);
  EXPECT_THAT(open_error(folder.path()), HasSubstr("up_proj.weight' is BF16"));
}

TEST(QuantisedErrors, RefuseAValueThatNoMethodHas) {
  TempFolder folder;
  const auto error_of = [&](const std::string& quantization) {
    folder.write("config.json", small_config(quantization));
    return open_error(folder / "config.json");
  };
  EXPECT_THAT(error_of(R"({"quant_method":"gptq","bits":5})"),
              HasSubstr("config.json: quantization_config.bits: 5 bits"));
  EXPECT_THAT(error_of(R"({"quant_method":"gptq","bits":4,"group_size":0})"),
              HasSubstr("group_size: 0 is not a group size"));
  EXPECT_THAT(error_of(R"({"quant_method":"fp8","weight_block_size":[128]})"),
              HasSubstr("weight_block_size: not two sizes"));
  EXPECT_THAT(error_of(R"({"quant_method":"fp8","weight_block_size":[0,128]})"),
              HasSubstr("weight_block_size"));
  EXPECT_THAT(error_of(R"({"quant_method":"awq","modules_to_not_convert":[1]})"),
              HasSubstr("modules_to_not_convert: not a list of names"));
  EXPECT_THAT(error_of(R"({"quant_method":7})"), HasSubstr("quant_method: not a string"));
}

TEST(QuantisedErrors, NameAMethodThatIsNotKnown) {
  TempFolder folder;
  for (const std::string method : {"hqq", "quanto", "torchao", "eetq", "aqlm"}) {
    folder.write("config.json", small_config(R"({"quant_method":")" + method + "\"}"));
    EXPECT_THAT(open_error(folder / "config.json"),
                AllOf(HasSubstr("config.json: quantization_config: "), HasSubstr(method),
                      HasSubstr("name the checkpoint itself")));
  }
}

// DeepSeek-V4 has experts in FP4 beside weights in FP8; to count them as FP8 would be double.
TEST(QuantisedErrors, SayThatFp8WithExpertsOfAnotherDtypeIsNotKnown) {
  TempFolder folder;
  const auto error = [&](const std::string& experts) {
    folder.write(
        "config.json",
        small_config(R"({"quant_method":"fp8","weight_block_size":[16,16])" + experts + "}"));
    return open_error(folder / "config.json");
  };
  EXPECT_THAT(error(R"(,"expert_dtype":"fp4")"), HasSubstr("is not one that Berth knows"));
  EXPECT_EQ(error(R"(,"expert_dtype":"fp8")"), error(""));
}

TEST(QuantisedErrors, SayThatAMethodIsNotKnown) {
  TempFolder folder;
  folder.write("config.json", small_config(R"({"quant_method":"hqq"})"));
  EXPECT_THAT(open_error(folder / "config.json"),
              HasSubstr("quant_method 'hqq' with these settings is not one that Berth knows"));
}

TEST(QuantisedErrors, NameTheGroupsThatNoWeightFills) {
  TempFolder folder;
  folder.write("config.json", small_config(R"({"quant_method":"awq","bits":4,"group_size":100})"));
  EXPECT_THAT(open_error(folder / "config.json"),
              HasSubstr("config.json: quantization_config.group_size: 100 does not divide the 256 "
                        "inputs of 'model.layers.0.self_attn.q_proj.weight', and no weight could"));
  folder.write("config.json", small_config(R"({"quant_method":"gptq","group_size":128})"));
  EXPECT_THAT(open_error(folder / "config.json"),
              HasSubstr("quantization_config.bits: is missing"));
}

TEST(Quantization, NotesTheWeightsThatFillNoGroups) {
  TempFolder folder;
  folder.write("config.json",
               small_config(R"({"quant_method":"awq","bits":4,"q_group_size":512})"));
  const ModelTree tree = open_model(folder / "config.json", std::nullopt).tree;
  EXPECT_EQ(tree.quantization, "AWQ 4-bit");
  ASSERT_EQ(tree.notes.size(), 1u);
  EXPECT_THAT(tree.notes[0],
              HasSubstr("quantization_config.q_group_size: 512 does not divide the 256 inputs of "
                        "'model.layers.0.self_attn.q_proj.weight': 12 such weights are"));
}

TEST(QuantisedErrors, RefuseAPlainWeightOfAnotherShapeWhateverTheMethod) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(plain_layer(DType::kBF16));
  tensors[4].shape[0] = 255;
  for (const char* quantization : {R"({"quant_method":"quanto"})", kGptq, ""}) {
    write_checkpoint(folder, small_config(quantization), tensors);
    EXPECT_THAT(open_error(folder.path()), HasSubstr("q_proj.weight' has shape [255, 256]"));
  }
}

TEST(QuantisedErrors, RefuseTheSamePartTwice) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(gptq_layer(4, 128));
  tensors.push_back({"layers.0.mlp.up_proj.scales",
                     DType::kF16,
                     {2, 512}});  // named as if saved from a LlamaModel
  write_checkpoint(folder, small_config(kGptq), tensors);
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr("'layers.0.mlp.up_proj.scales'"), HasSubstr("are both 'scales' of")));
}

// If a family has no template, names and shapes tell what is a weight and what is a scale.
TEST_P(Quantised, UnknownFamiliesCountTheirParametersToo) {
  TempFolder folder;
  std::string config = small_config(GetParam().quantization);
  config.replace(config.find("llama"), 5, "yet_unheard_of");
  write_checkpoint(folder, config, small_tensors(GetParam().layer));
  const ModelTree tree = open_model(folder.path(), std::nullopt).tree;
  EXPECT_EQ(tree.parameters(), kSmallParameters);
  EXPECT_FALSE(tree.quantization.empty());
  const ModelTree wide = open_model(folder.path(), DType::kF32).tree;
  EXPECT_EQ(wide.bytes(), tree.bytes() + 2u * (2 * 96 * 256 + 5 * 256));
}

TEST(Quantization, PlansAnUnknownMethodByWhatIsStored) {
  TempFolder folder;
  const Layer quanto = [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight._data", DType::kI8, {out, in}},
                                   {name + ".weight._scale", DType::kBF16, {out, 1}},
                                   {name + ".input_scale", DType::kBF16, {}}};
  };
  write_checkpoint(folder, small_config(R"({"quant_method":"quanto"})"), small_tensors(quanto));
  const Model model = open_model(folder.path(), DType::kF32);
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
  EXPECT_EQ(model.tree.quantization, "quanto");
  EXPECT_EQ(open_model(folder.path(), std::nullopt).tree.bytes(), model.checkpoint->bytes());
}

// mlx stores U32 words under the weight's own name, also for the embedding, and names no
// quant_method.
TEST(Quantization, PlansMlxCheckpointsWithATiedEmbedding) {
  TempFolder folder;
  const Layer mlx = [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight", DType::kU32, {out, in / 8}},
                                   {name + ".scales", DType::kBF16, {out, in / 64}},
                                   {name + ".biases", DType::kBF16, {out, in / 64}}};
  };
  std::vector<FakeTensor> tensors = small_tensors(mlx);
  tensors.erase(tensors.begin());  // the embedding; the head goes with it
  tensors.pop_back();
  for (FakeTensor& tensor : mlx("model.embed_tokens", 96, 256)) tensors.push_back(tensor);
  write_checkpoint(folder,
                   small_config(R"({"group_size":64,"bits":4})", R"(,"tie_word_embeddings":true)"),
                   tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.quantization, "MLX 4-bit");
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(), kSmallParameters - 96 * 256);
  ASSERT_EQ(model.tree.ties.size(), 3u);
  for (const auto& group : model.tree.ties) {
    ASSERT_EQ(group.size(), 2u);
    const ModelTensor& first = model.tree.tensors[group[0]];
    const ModelTensor& second = model.tree.tensors[group[1]];
    EXPECT_TRUE(first.name.starts_with("model.embed_tokens."));
    EXPECT_EQ(second.name, "lm_head." + std::string(first.name.substr(19)));
    EXPECT_EQ(second.tied_to, group[0]);
    EXPECT_EQ(second.source, kNone);
    EXPECT_EQ(model.tree.modules[second.module].name, "lm_head");
  }
}

// Older versions of mlx write the key `quantization` alone.
TEST(Quantization, NamesMlxWhereverItsConfigStands) {
  TempFolder folder;
  const Layer mlx = [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".weight", DType::kU32, {out, in / 8}},
                                   {name + ".scales", DType::kBF16, {out, in / 64}},
                                   {name + ".biases", DType::kBF16, {out, in / 64}}};
  };
  std::string config = small_config(R"({"group_size":64,"bits":4})");
  const std::string key = "\"quantization_config\"";
  config.replace(config.find(key), key.size(), "\"quantization\"");
  write_checkpoint(folder, config, small_tensors(mlx));
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.quantization, "MLX 4-bit");
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
  const auto error_of = [&](const std::filesystem::path& path, Dequantize dequantize) {
    try {
      open_model(path, std::nullopt, dequantize);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error_of(folder.path(), Dequantize::kYes), HasSubstr("MLX"));
  EXPECT_THAT(error_of(folder / "config.json", Dequantize::kNo), HasSubstr("MLX"));
}

TEST(Quantization, AHeadStoredQuantisedIsNotTied) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors([](const std::string&) { return awq_layer(64); });
  write_checkpoint(folder,
                   small_config(R"({"quant_method":"awq","bits":4,"group_size":64})",
                                R"(,"tie_word_embeddings":true)"),
                   tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_TRUE(model.tree.ties.empty());
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
}

TEST(Quantization, PassesOverTheZeroBiasesOfEarlyAutoGptq) {
  TempFolder folder;
  const Layer biased = [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    std::vector<FakeTensor> made = gptq_layer(4, 128)(name, out, in);
    made.push_back({name + ".bias", DType::kF16, {out}});
    return made;
  };
  write_checkpoint(folder, small_config(kGptq), small_tensors(biased));
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.ignored_bytes, 2u * 2 * (2 * 256 + 2 * 128 + 2 * 512 + 256));
  EXPECT_EQ(model.tree.bytes() + model.tree.ignored_bytes, model.checkpoint->bytes());
}

TEST(Quantization, KeepsScalesOfTheCache) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = small_tensors(scaled_layer(DType::kF8E4M3, 0, DType::kF32));
  tensors.push_back({"model.layers.0.self_attn.k_scale", DType::kF32, {1}});
  tensors.push_back({"model.layers.1.self_attn.v_proj.v_scale", DType::kF32, {}});
  write_checkpoint(folder, small_config(R"({"quant_method":"fp8","activation_scheme":"dynamic"})"),
                   tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(), kSmallParameters);
}

// AWQ's other layout pads its groups to whole words: here 4 groups take 1 word of 8.
TEST(Quantization, ReadsTheGemvLayoutOfAwq) {
  TempFolder folder;
  const Layer gemv = [](const std::string& name, std::uint64_t out, std::uint64_t in) {
    return std::vector<FakeTensor>{{name + ".qweight", DType::kI32, {out, in / 8}},
                                   {name + ".qzeros", DType::kI32, {out, 1}},
                                   {name + ".scales", DType::kF16, {out, 8}}};
  };
  write_checkpoint(
      folder, small_config(R"({"quant_method":"awq","bits":4,"group_size":128,"version":"gemv"})"),
      small_tensors(gemv));
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(outline(model.tree), outline(open_model(folder / "config.json", std::nullopt).tree));
}

TEST(Quantization, JoinsTheLabelsOfAMixedCheckpoint) {
  TempFolder folder;
  const auto pick = [](const std::string& name) {
    if (name == "lm_head") return plain_layer(DType::kBF16);
    return name.find("self_attn") == name.npos ? nvfp4_layer()
                                               : scaled_layer(DType::kF8E4M3, 1, DType::kBF16);
  };
  const std::string quantization = R"({"quant_method":"compressed-tensors","ignore":["lm_head"],
      "format":"mixed-precision","config_groups":{
      "group_0":{"format":"float-quantized","targets":["re:.*self_attn.*"],
                 "weights":{"num_bits":8,"type":"float","strategy":"channel"}},
      "group_1":{"format":"nvfp4-pack-quantized","targets":["Linear"],
                 "weights":{"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16},
                 "input_activations":{"num_bits":4,"type":"float","dynamic":"local"}}}})";
  write_checkpoint(folder, small_config(quantization), small_tensors(pick));
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.quantization, "NVFP4 + FP8");
  const ModelTree alone = open_model(folder / "config.json", std::nullopt).tree;
  EXPECT_EQ(alone.quantization, "NVFP4 + FP8");
  EXPECT_EQ(outline(alone), outline(model.tree));
}

}  // namespace
}  // namespace berth

// Published quantised models: their sizes must be those that their own indexes state, or that
// follow from their shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"
#include "tests/model/quantized_layers.h"

namespace berth {
namespace {

using namespace test;

std::uint64_t up(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

ModelTree tree_of(const std::string& config, std::optional<DType> dtype = std::nullopt) {
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  return build_model_tree("m", &parsed, nullptr, dtype);
}

const ModelTensor* find(const ModelTree& tree, std::string_view name) {
  const auto found = std::ranges::find(tree.tensors, name, &ModelTensor::name);
  return found == tree.tensors.end() ? nullptr : &*found;
}

std::string gpt_oss(int layers, int experts) {
  return R"({"model_type":"gpt_oss","hidden_size":2880,
      "intermediate_size":2880,"num_attention_heads":64,"num_key_value_heads":8,"head_dim":64,
      "vocab_size":201088,"max_position_embeddings":131072,"sliding_window":128,
      "attention_bias":true,"num_experts_per_tok":4,"tie_word_embeddings":false,
      "num_hidden_layers":)" +
         std::to_string(layers) + R"(,"num_local_experts":)" + std::to_string(experts) +
         R"(,"quantization_config":{"quant_method":"mxfp4","modules_to_not_convert":[
      "model.layers.*.self_attn","model.layers.*.mlp.router","model.embed_tokens","lm_head"]}})";
}

// The metadata.total_size in the two models' model.safetensors.index.json.
TEST(Published, GptOss) {
  const ModelTree small = tree_of(gpt_oss(24, 32));
  EXPECT_EQ(small.bytes(), 13'761'264'768u);
  EXPECT_EQ(small.parameters(), 20'914'757'184u);
  EXPECT_EQ(small.quantization, "MXFP4");
  const ModelTree large = tree_of(gpt_oss(36, 128));
  EXPECT_EQ(large.bytes(), 65'248'815'744u);
  EXPECT_EQ(large.parameters(), 116'829'156'672u);
}

TEST(Published, GptOssStoresBlocksAndScales) {
  const ModelTree tree = tree_of(gpt_oss(36, 128), DType::kF16);
  const ModelTensor* blocks = find(tree, "model.layers.35.mlp.experts.gate_up_proj_blocks");
  const ModelTensor* scales = find(tree, "model.layers.35.mlp.experts.down_proj_scales");
  ASSERT_TRUE(blocks != nullptr && scales != nullptr);
  EXPECT_EQ(blocks->shape, (Shape{128, 5760, 90, 16}));
  EXPECT_EQ(blocks->dtype, DType::kU8);
  EXPECT_EQ(blocks->elements(), 128u * 5760 * 2880);
  EXPECT_EQ(scales->shape, (Shape{128, 2880, 90}));
  EXPECT_EQ(scales->elements(), 0u);
  EXPECT_EQ(find(tree, "model.layers.35.mlp.experts.gate_up_proj"), nullptr);
  EXPECT_EQ(find(tree, "model.layers.35.mlp.router.weight")->dtype, DType::kF16);
}

TEST(Published, GptOssCheckpointGivesTheTreeOfItsConfig) {
  TempFolder folder;
  const ModelTree alone = tree_of(gpt_oss(2, 4));
  std::vector<FakeTensor> tensors;
  for (const ModelTensor& tensor : alone.tensors) {
    if (!tensor.persistent || tensor.name.find("experts.") != std::string::npos) continue;
    tensors.push_back({std::string(tensor.name), DType::kBF16, tensor.shape});
  }
  for (const std::string at : {"model.layers.0.mlp.experts.", "model.layers.1.mlp.experts."}) {
    tensors.push_back({at + "gate_up_proj_blocks", DType::kU8, {4, 5760, 90, 16}});
    tensors.push_back({at + "gate_up_proj_scales", DType::kU8, {4, 5760, 90}});
    tensors.push_back({at + "gate_up_proj_bias", DType::kBF16, {4, 5760}});
    tensors.push_back({at + "down_proj_blocks", DType::kU8, {4, 2880, 90, 16}});
    tensors.push_back({at + "down_proj_scales", DType::kU8, {4, 2880, 90}});
    tensors.push_back({at + "down_proj_bias", DType::kBF16, {4, 2880}});
  }
  write_checkpoint(folder, gpt_oss(2, 4), tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(outline(model.tree), outline(alone));
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());

  std::erase_if(tensors, [](const FakeTensor& tensor) {
    return tensor.name == "model.layers.1.mlp.experts.down_proj_scales";
  });
  write_checkpoint(folder, gpt_oss(2, 4), tensors);
  EXPECT_THAT(open_error(folder.path()),
              testing::HasSubstr(
                  "lacks tensor 'model.layers.1.mlp.experts.down_proj_scales' [4, 2880, 90]"));
}

std::string deepseek_v3(const std::string& quantization) {
  return R"({"model_type":"deepseek_v3","torch_dtype":"bfloat16","hidden_size":7168,
      "intermediate_size":18432,"moe_intermediate_size":2048,"num_hidden_layers":61,
      "num_nextn_predict_layers":1,"num_attention_heads":128,"num_key_value_heads":128,
      "n_routed_experts":256,"n_shared_experts":1,"num_experts_per_tok":8,
      "first_k_dense_replace":3,"q_lora_rank":1536,"kv_lora_rank":512,"qk_nope_head_dim":128,
      "qk_rope_head_dim":64,"v_head_dim":128,"vocab_size":129280,"tie_word_embeddings":false,
      "max_position_embeddings":163840)" +
         quantization + "}";
}
constexpr const char* kDeepseekFp8 =
    R"(,"quantization_config":{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8",
        "weight_block_size":[128,128]})";

// Bytes of an FP8 weight and its F32 scales.
std::uint64_t fp8(std::uint64_t out, std::uint64_t in) {
  return out * in + 4 * up(out, 128) * up(in, 128);
}

std::uint64_t deepseek_attention() {
  return fp8(1536, 7168) + 2 * 1536 + fp8(128 * 192, 1536) + fp8(576, 7168) + 2 * 512 +
         fp8(128 * 256, 512) + fp8(7168, 128 * 128);
}
std::uint64_t deepseek_sparse_layer() {
  const std::uint64_t expert = 2 * fp8(2048, 7168) + fp8(7168, 2048);
  return deepseek_attention() + 257 * expert + 2 * 256 * 7168 + 4 * 256 + 2 * 2 * 7168;
}
std::uint64_t deepseek_bytes() {
  const std::uint64_t dense =
      deepseek_attention() + 2 * fp8(18432, 7168) + fp8(7168, 18432) + 2 * 2 * 7168;
  return 3 * dense + 58 * deepseek_sparse_layer() + 2 * 2 * 129280u * 7168 + 2 * 7168;
}

TEST(Published, DeepSeekV3InFp8) {
  const ModelTree tree = tree_of(deepseek_v3(kDeepseekFp8));
  EXPECT_EQ(tree.bytes(), deepseek_bytes());
  EXPECT_EQ(tree.parameters(), tree_of(deepseek_v3("")).parameters());
  EXPECT_EQ(tree.parameters(), 671'026'404'352u);
  EXPECT_EQ(tree.quantization, "FP8");
  // The layer for multi-token prediction adds its embedding, norms, projection and head. With it,
  // the tensors are the published 688.6 GB (688,586,727,753 bytes together with the 91,991 entries
  // of the headers).
  const std::uint64_t mtp =
      deepseek_sparse_layer() + 2 * 2 * 129280u * 7168 + 2 * 3 * 7168 + 2 * 7168u * 14336;
  EXPECT_EQ(tree.bytes() + mtp, 688'574'839'360u);

  EXPECT_EQ(find(tree, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv")->shape,
            (Shape{5, 56}));
  EXPECT_EQ(find(tree, "model.layers.3.mlp.gate.weight")->stored, DType::kBF16);
  EXPECT_EQ(find(tree, "model.layers.3.mlp.gate.e_score_correction_bias")->stored, DType::kF32);
  EXPECT_EQ(find(tree, "lm_head.weight")->stored, DType::kBF16);
}

// Qwen3's own FP8 files have BF16 scales, and list the modules that stay as they are.
TEST(Published, Qwen3InFp8) {
  const ModelTree tree = tree_of(
      R"({"model_type":"qwen3","torch_dtype":"bfloat16","hidden_size":2048,"head_dim":128,
          "intermediate_size":6144,"num_hidden_layers":28,"num_attention_heads":16,
          "num_key_value_heads":8,"vocab_size":151936,"max_position_embeddings":40960,
          "tie_word_embeddings":true,"quantization_config":{"activation_scheme":"dynamic",
          "fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,128],
          "modules_to_not_convert":["lm_head","model.layers.0.input_layernorm"]}})");
  const ModelTensor* scales = find(tree, "model.layers.0.mlp.down_proj.weight_scale_inv");
  EXPECT_EQ(scales->stored, DType::kBF16);
  EXPECT_EQ(scales->shape, (Shape{16, 48}));
  EXPECT_EQ(std::ranges::count_if(tree.tensors,
                                  [](const ModelTensor& tensor) {
                                    return tensor.name.ends_with("weight_scale_inv");
                                  }),
            196);
}

TEST(Published, Llama70BInGptq) {
  const ModelTree tree = tree_of(
      R"({"model_type":"llama","torch_dtype":"float16","hidden_size":8192,
          "intermediate_size":28672,"num_hidden_layers":80,"num_attention_heads":64,
          "num_key_value_heads":8,"vocab_size":128256,"max_position_embeddings":131072,
          "tie_word_embeddings":false,"quantization_config":{"quant_method":"gptq","bits":4,
          "group_size":128,"desc_act":false,"sym":true,"checkpoint_format":"gptq"}})");
  EXPECT_EQ(tree.parameters(), 70'553'706'496u);
  const auto gptq = [](std::uint64_t out, std::uint64_t in) {
    return in * out / 2 + in / 128 * out / 2 + in / 128 * out * 2 + in * 4;
  };
  const std::uint64_t layer = 2 * gptq(8192, 8192) + 2 * gptq(1024, 8192) + 2 * gptq(28672, 8192) +
                              gptq(8192, 28672) + 2 * 2 * 8192;
  EXPECT_EQ(tree.bytes(), 80 * layer + 2 * 2 * 128256u * 8192 + 2 * 8192);
  EXPECT_EQ(find(tree, "lm_head.weight")->stored, DType::kF16);
  EXPECT_EQ(find(tree, "model.layers.79.mlp.down_proj.qweight")->elements(), 8192u * 28672);
}

// Mixtral under AWQ: the experts are quantised, but the router is not. The files use the older name
// of the block.
TEST(Published, MixtralInAwq) {
  const std::string config =
      R"({"model_type":"mixtral","torch_dtype":"float16","hidden_size":128,"intermediate_size":256,
          "num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":64,
          "num_local_experts":2,"num_experts_per_tok":1,"max_position_embeddings":64,
          "quantization_config":{"quant_method":"awq","bits":4,"group_size":64,"version":"gemm",
          "zero_point":true,"modules_to_not_convert":["gate"]}})";
  std::vector<FakeTensor> tensors{
      {"model.embed_tokens.weight", DType::kF16, {64, 128}},
      {"lm_head.weight", DType::kF16, {64, 128}},
      {"model.norm.weight", DType::kF16, {128}},
      {"model.layers.0.input_layernorm.weight", DType::kF16, {128}},
      {"model.layers.0.post_attention_layernorm.weight", DType::kF16, {128}},
      {"model.layers.0.block_sparse_moe.gate.weight", DType::kF16, {2, 128}}};
  const auto add = [&](const std::string& name, std::uint64_t out, std::uint64_t in) {
    for (FakeTensor& tensor : awq_layer(64)(name, out, in)) tensors.push_back(std::move(tensor));
  };
  add("model.layers.0.self_attn.q_proj", 128, 128);
  add("model.layers.0.self_attn.k_proj", 64, 128);
  add("model.layers.0.self_attn.v_proj", 64, 128);
  add("model.layers.0.self_attn.o_proj", 128, 128);
  for (const std::string expert : {"0", "1"}) {
    const std::string at = "model.layers.0.block_sparse_moe.experts." + expert + ".";
    add(at + "w1", 256, 128);
    add(at + "w2", 128, 256);
    add(at + "w3", 256, 128);
  }
  TempFolder folder;
  write_checkpoint(folder, config, tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(outline(model.tree), outline(tree_of(config)));
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
}

// GPTQModel's `dynamic` gives some layers other bits, and leaves some as they are.
TEST(Published, GptqWithDynamicLayers) {
  const std::string config = small_config(R"({"quant_method":"gptq","bits":4,"group_size":128,
      "dynamic":{"-:.*k_proj":{},"+:.*\\.1\\..*down_proj.*":{"bits":8,"group_size":64}}})");
  const ModelTree tree = tree_of(config);
  EXPECT_NE(find(tree, "model.layers.0.self_attn.k_proj.weight"), nullptr);
  EXPECT_EQ(find(tree, "model.layers.0.mlp.down_proj.qweight")->shape, (Shape{64, 256}));
  EXPECT_EQ(find(tree, "model.layers.1.mlp.down_proj.qweight")->shape, (Shape{128, 256}));
  TempFolder folder;
  write_checkpoint(folder, config, small_tensors([](const std::string& name) {
                     if (name == "lm_head" || name.ends_with("k_proj")) {
                       return plain_layer(DType::kBF16);
                     }
                     const bool wide = name == "model.layers.1.mlp.down_proj";
                     return wide ? gptq_layer(8, 64) : gptq_layer(4, 128);
                   }));
  EXPECT_EQ(outline(open_model(folder.path(), std::nullopt).tree), outline(tree));
}

// A row that does not fill a packed word stays as it is: the gate of Qwen's shared expert.
TEST(Published, GptqAndAwqPassOverWhatFillsNoWord) {
  const auto gate = [](const std::string& quantization) {
    const ModelTree tree = tree_of(
        R"({"model_type":"qwen2_moe","torch_dtype":"float16","hidden_size":64,"vocab_size":64,
            "intermediate_size":128,"moe_intermediate_size":64,"num_hidden_layers":1,
            "shared_expert_intermediate_size":64,"num_attention_heads":2,"num_key_value_heads":2,
            "num_experts":2,"num_experts_per_tok":1,"max_position_embeddings":32,
            "quantization_config":)" +
        quantization + "}");
    EXPECT_NE(find(tree, "model.layers.0.mlp.experts.1.up_proj.qweight"), nullptr);
    return find(tree, "model.layers.0.mlp.shared_expert_gate.weight") != nullptr;
  };
  EXPECT_TRUE(gate(R"({"quant_method":"gptq","bits":4,"group_size":32})"));
  EXPECT_TRUE(gate(R"({"quant_method":"awq","bits":4,"group_size":32})"));
}

TEST(Published, GptqOfNamedLinears) {
  const ModelTree tree = tree_of(small_config(R"({"quant_method":"gptq","bits":4,"group_size":128,
      "modules_in_block_to_quantize":[["self_attn.q_proj","self_attn.k_proj"],["mlp.up_proj"]]})"));
  EXPECT_NE(find(tree, "model.layers.0.self_attn.k_proj.qweight"), nullptr);
  EXPECT_NE(find(tree, "model.layers.1.mlp.up_proj.qweight"), nullptr);
  EXPECT_NE(find(tree, "model.layers.0.self_attn.v_proj.weight"), nullptr);
}

// GPT-2's Conv1D stores [in, out], but GPTQ packs along the input as always.
TEST(Published, GptqOfConv1D) {
  const ModelTree tree = tree_of(
      R"({"model_type":"gpt2","n_embd":64,"n_layer":1,"n_head":2,"n_positions":16,"vocab_size":32,
          "quantization_config":{"quant_method":"gptq","bits":4,"group_size":32}})");
  EXPECT_EQ(find(tree, "transformer.h.0.attn.c_attn.qweight")->shape, (Shape{8, 192}));
  EXPECT_EQ(find(tree, "transformer.h.0.mlp.c_proj.scales")->shape, (Shape{8, 64}));
  EXPECT_NE(find(tree, "transformer.h.0.attn.c_attn.bias"), nullptr);
}

TEST(Published, SkippedModulesByNamePatternAndGlob) {
  const auto plain = [](const std::string& quantization) {
    const ModelTree tree = tree_of(small_config(quantization));
    std::vector<std::string> names;
    for (const ModelTensor& tensor : tree.tensors) {
      if (tensor.name.find("_proj.weight") != std::string::npos && tensor.stored == DType::kBF16 &&
          tensor.elements() > 0) {
        names.emplace_back(tensor.name.substr(13));
      }
    }
    return names;
  };
  using testing::ElementsAre;
  EXPECT_THAT(plain(R"({"quant_method":"fbgemm_fp8","modules_to_not_convert":
                        ["model.layers.0.mlp","model.layers.1","lm"]})"),
              testing::AllOf(testing::SizeIs(10), testing::Contains("0.mlp.up_proj.weight"),
                             testing::Contains("1.self_attn.q_proj.weight")));
  EXPECT_THAT(plain(R"({"quant_method":"compressed-tensors","format":"int-quantized",
                        "ignore":["re:.*1.mlp.(up|down)_proj$"],"config_groups":{"a":{
                        "targets":["Linear"],"weights":{"num_bits":8,"strategy":"channel"}}}})"),
              ElementsAre("1.mlp.up_proj.weight", "1.mlp.down_proj.weight"));
  EXPECT_THAT(plain(R"({"quant_method":"compressed-tensors","format":"int-quantized",
                        "ignore":["re:(?!.*0\\.).*mlp.*(?<!gate)_proj$"],"config_groups":{"a":{
                        "targets":["Linear"],"weights":{"num_bits":8,"strategy":"channel"}}}})"),
              ElementsAre("1.mlp.up_proj.weight", "1.mlp.down_proj.weight"));
  EXPECT_THAT(plain(R"({"quant_method":"modelopt","quant_algo":"FP8",
                        "ignore":["lm_head","model.layers.0*","*mlp*"]})"),
              testing::SizeIs(10));
}

// Patterns are matched in polynomial time: backtracking would take years here.
TEST(Published, SkippedModulesByAnUnkindPattern) {
  const ModelTree tree = tree_of(small_config(
      R"({"quant_method":"fbgemm_fp8","modules_to_not_convert":["((([a-z]+)+[._0-9]*)+)+[A-Z]"]})"));
  EXPECT_EQ(find(tree, "model.layers.0.mlp.up_proj.weight")->stored, DType::kF8E4M3);
}

TEST(Published, SkippedModulesMustBeNamesOrPatterns) {
  const std::string brackets(4000, '(');
  for (const std::string& entry : {std::string("re:("), brackets, std::string("re:[")}) {
    TempFolder folder;
    folder.write("config.json", small_config(R"({"quant_method":"fbgemm_fp8",
        "modules_to_not_convert":[")" + entry +
                                             "\"]}"));
    const std::string error = open_error(folder / "config.json");
    EXPECT_THAT(error, testing::HasSubstr("modules_to_not_convert: '")) << entry.substr(0, 9);
  }
}

}  // namespace
}  // namespace berth

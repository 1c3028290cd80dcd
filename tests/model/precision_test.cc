// What a model's weights take in a precision that nobody has stored them in.
#include "planner/model/precision/precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "berth/error.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/precision/requantize.h"
#include "planner/model/tree/config.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::Contains;
using ::testing::Each;
using testing::error_of;
using ::testing::HasSubstr;

// A model from its config alone, and what it is in another precision.
struct Made {
  explicit Made(const std::string& json)
      : config(ModelConfig::parse(json, "config.json")),
        tree(build_model_tree("m", &config, nullptr, std::nullopt)) {}

  ModelTree in(const char* precision) const {
    return requantize(tree, *find_precision(precision), &config);
  }

  ModelConfig config;
  ModelTree tree;
};

const ModelTensor& tensor_of(const ModelTree& tree, std::string_view name) {
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.name == name) return tensor;
  }
  throw Error("no tensor " + std::string(name));
}

bool has(const ModelTree& tree, std::string_view name) {
  return std::ranges::any_of(tree.tensors, [&](const auto& tensor) { return tensor.name == name; });
}

std::string llama(std::uint64_t hidden, std::uint64_t intermediate, int layers, int heads,
                  int kv_heads, bool tied, const std::string& more = "") {
  return R"({"model_type":"llama","architectures":["LlamaForCausalLM"],"dtype":"bfloat16",)"
         R"("vocab_size":128256,"rms_norm_eps":1e-5,"max_position_embeddings":8192,"hidden_size":)" +
         std::to_string(hidden) + R"(,"intermediate_size":)" + std::to_string(intermediate) +
         R"(,"num_hidden_layers":)" + std::to_string(layers) + R"(,"num_attention_heads":)" +
         std::to_string(heads) + R"(,"num_key_value_heads":)" + std::to_string(kv_heads) +
         R"(,"tie_word_embeddings":)" + (tied ? "true" : "false") + more + "}";
}

std::string llama_8b() { return llama(4096, 14336, 32, 32, 8, false); }
std::string llama_70b() { return llama(8192, 28672, 80, 64, 8, false); }

TEST(Precisions, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const Precision& precision : precisions()) {
    EXPECT_TRUE(names.insert(precision.name).second) << precision.name;
    for (const std::string_view alias : precision.aliases) {
      if (alias.empty()) continue;
      EXPECT_TRUE(names.insert(alias).second) << alias;
    }
    EXPECT_EQ(find_precision(precision.name), &precision);
  }
  EXPECT_EQ(find_precision("Q4_K_M"), find_precision("q4_k_m"));
  EXPECT_EQ(find_precision("bf16"), find_precision("bfloat16"));
  EXPECT_EQ(find_precision(""), nullptr);
  EXPECT_EQ(find_precision("q4"), nullptr);
}

// Bits of a weight as the README of llama.cpp's tools/quantize has them for Llama-3.1-8B: sizes of
// files that llama-quantize wrote.
TEST(GgufMixes, TakeAsManyBitsAsTheFilesOfLlamaCpp) {
  const Made model(llama_8b());
  const std::map<std::string, double> bits{
      {"iq1_s", 2.0042},  {"iq1_m", 2.1460},  {"iq2_xxs", 2.3824}, {"iq2_xs", 2.5882},
      {"iq2_s", 2.7403},  {"iq2_m", 2.9294},  {"iq3_xxs", 3.2548}, {"iq3_xs", 3.4977},
      {"iq3_s", 3.6606},  {"iq3_m", 3.7628},  {"iq4_xs", 4.4597},  {"iq4_nl", 4.6818},
      {"q2_k_s", 2.9697}, {"q2_k", 3.1593},   {"q3_k_s", 3.6429},  {"q3_k_l", 4.2979},
      {"q4_k_s", 4.6672}, {"q4_k_m", 4.8944}, {"q5_k_s", 5.5704},  {"q5_k_m", 5.7036},
      {"q6_k", 6.5633},   {"q8_0", 8.5008}};
  const auto parameters = static_cast<double>(model.tree.parameters());
  for (const auto& [name, expected] : bits) {
    const double made = static_cast<double>(model.in(name.c_str()).bytes()) * 8 / parameters;
    EXPECT_NEAR(made, expected, 0.0006) << name;
  }
}

TEST(GgufMixes, GiveMoreBitsToValuesAndToWhatLeadsBack) {
  const ModelTree tree = Made(llama_8b()).in("q4_k_m");
  const auto type = [&](int layer, const char* name) {
    return tensor_of(tree, "model.layers." + std::to_string(layer) + "." + name + ".weight").dtype;
  };
  // The first and the last eighth of 32 layers, and each third of those between.
  for (const int layer : {0, 3, 6, 9, 27, 28, 31}) {
    EXPECT_EQ(type(layer, "self_attn.v_proj"), DType::kQ6_K) << layer;
    EXPECT_EQ(type(layer, "mlp.down_proj"), DType::kQ6_K) << layer;
  }
  for (const int layer : {4, 5, 7, 26}) {
    EXPECT_EQ(type(layer, "self_attn.v_proj"), DType::kQ4_K) << layer;
    EXPECT_EQ(type(layer, "mlp.down_proj"), DType::kQ4_K) << layer;
  }
  EXPECT_EQ(type(0, "self_attn.q_proj"), DType::kQ4_K);
  EXPECT_EQ(type(0, "self_attn.o_proj"), DType::kQ4_K);
  EXPECT_EQ(type(0, "input_layernorm"), DType::kF32);
  EXPECT_EQ(tensor_of(tree, "model.embed_tokens.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(tensor_of(tree, "lm_head.weight").dtype, DType::kQ6_K);
}

TEST(GgufMixes, RaiseValuesOfA70b) {
  const ModelTree tree = Made(llama_70b()).in("q4_k_m");
  EXPECT_EQ(tensor_of(tree, "model.layers.11.self_attn.v_proj.weight").dtype, DType::kQ5_K);
  EXPECT_EQ(tensor_of(tree, "model.layers.12.self_attn.v_proj.weight").dtype, DType::kQ6_K);
}

TEST(GgufMixes, StoreATiedEmbeddingAsTheOutput) {
  const ModelTree tree = Made(llama(2048, 8192, 16, 32, 8, true)).in("q4_k_m");
  EXPECT_EQ(tensor_of(tree, "model.embed_tokens.weight").dtype, DType::kQ6_K);
  EXPECT_EQ(tensor_of(tree, "lm_head.weight").dtype, DType::kQ6_K);
  // 16 matrices of each kind, and the embedding once.
  EXPECT_EQ(tree.parameters(), Made(llama(2048, 8192, 16, 32, 8, true)).tree.parameters());
}

TEST(GgufMixes, TakeSmallerBlocksWhereRowsAreNotWholeOnes) {
  const ModelTree tree = Made(llama(576, 1536, 30, 9, 3, true)).in("q4_k_m");  // SmolLM2-135M
  EXPECT_EQ(tensor_of(tree, "model.layers.5.self_attn.q_proj.weight").dtype, DType::kQ5_0);
  EXPECT_EQ(tensor_of(tree, "model.layers.0.self_attn.v_proj.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(tensor_of(tree, "model.layers.4.mlp.down_proj.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(tensor_of(tree, "model.embed_tokens.weight").dtype, DType::kQ8_0);
}

std::string mixtral() {
  return R"({"model_type":"mixtral","architectures":["MixtralForCausalLM"],"dtype":"bfloat16",
      "hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,
      "num_key_value_heads":8,"num_local_experts":8,"num_experts_per_tok":2,"vocab_size":32000,
      "max_position_embeddings":32768,"tie_word_embeddings":false})";
}

TEST(GgufMixes, GiveAMixtureOfEightMoreBitsForAttention) {
  const ModelTree tree = Made(mixtral()).in("q4_k_m");
  const std::string layer = "model.layers.5.";
  EXPECT_EQ(tensor_of(tree, layer + "self_attn.v_proj.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(tensor_of(tree, layer + "self_attn.k_proj.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(tensor_of(tree, layer + "self_attn.q_proj.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(tensor_of(tree, layer + "self_attn.o_proj.weight").dtype, DType::kQ5_K);
  EXPECT_EQ(tensor_of(tree, layer + "mlp.gate.weight").dtype, DType::kF32);
  EXPECT_EQ(tensor_of(tree, layer + "mlp.experts.7.w2.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(tensor_of(tree, "model.layers.6.mlp.experts.7.w2.weight").dtype, DType::kQ6_K);
  const ModelTree experts = Made(mixtral()).in("mxfp4_moe");
  EXPECT_EQ(tensor_of(experts, layer + "mlp.experts.7.w1.weight").dtype, DType::kMXFP4);
  EXPECT_EQ(tensor_of(experts, layer + "self_attn.o_proj.weight").dtype, DType::kQ8_0);
}

TEST(GgufMixes, SplitWhatLatentAttentionExpands) {
  const Made model(R"({"model_type":"deepseek_v3","architectures":["DeepseekV3ForCausalLM"],
      "dtype":"bfloat16","num_hidden_layers":4,"n_routed_experts":16,"qk_nope_head_dim":128,
      "v_head_dim":128})");
  const ModelTree tree = model.in("q4_k_m");
  const std::string at = "model.layers.0.self_attn.";
  EXPECT_FALSE(has(tree, at + "kv_b_proj.weight"));
  const ModelTensor& keys = tensor_of(tree, at + "kv_b_proj.k_b.weight");
  const ModelTensor& values = tensor_of(tree, at + "kv_b_proj.v_b.weight");
  EXPECT_EQ(keys.shape, (Shape{128, 512, 128}));
  EXPECT_EQ(keys.dtype, DType::kQ5_0);  // rows of 128 are no whole blocks of Q4_K
  EXPECT_EQ(values.shape, (Shape{128, 128, 512}));
  EXPECT_EQ(values.dtype, DType::kQ4_K);
  EXPECT_EQ(tree.parameters(), model.tree.parameters());
}

// What transformers and llama.cpp store as the transpose of what is multiplied.
TEST(GgufMixes, CountBlocksAlongTheInput) {
  const Made gpt2(R"({"model_type":"gpt2","architectures":["GPT2LMHeadModel"],"n_embd":768,
      "n_layer":2,"n_head":12,"vocab_size":50257,"n_positions":1024,"dtype":"float32"})");
  const ModelTree tree = gpt2.in("q4_k_m");
  const ModelTensor& fused = tensor_of(tree, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(fused.shape, (Shape{2304, 768}));
  EXPECT_EQ(fused.dtype, DType::kQ6_K);  // it holds the values, and is in the last eighth
  EXPECT_EQ(tensor_of(tree, "transformer.wpe.weight").dtype, DType::kF32);
  const Made oss(R"({"model_type":"gpt_oss","architectures":["GptOssForCausalLM"],
      "dtype":"bfloat16","num_hidden_layers":2,"num_local_experts":4})");
  const ModelTree stacked = oss.in("q4_k_m");
  const ModelTensor& experts = tensor_of(stacked, "model.layers.0.mlp.experts.gate_up_proj");
  EXPECT_EQ(experts.shape, (Shape{4, 5760, 2880}));
  EXPECT_EQ(experts.dtype, DType::kQ5_0);
  EXPECT_EQ(tensor_of(stacked, "model.layers.0.mlp.experts.gate_up_proj_bias").dtype, DType::kF32);
}

TEST(Schemes, TakeLinearWeightsOfTheBlocksAndLeaveTheRest) {
  const Made model(llama_8b());
  const std::uint64_t linear = 32ull * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336);
  const std::uint64_t rows = 32ull * (4096 * 3 + 1024 * 2 + 14336 * 2);  // of out_features
  const std::uint64_t rest = (model.tree.parameters() - linear) * 2;
  const std::uint64_t matrices = 32 * 7;
  const auto bytes = [&](const char* name) { return model.in(name).bytes(); };
  EXPECT_EQ(bytes("fp8"), rest + linear + rows * 2);
  EXPECT_EQ(bytes("int8"), rest + linear + rows * 2);
  EXPECT_EQ(bytes("int4"), rest + linear / 2 + linear / 128 * 2 + matrices * 16);
  EXPECT_EQ(bytes("awq"), rest + linear / 2 + linear / 128 * 2 + linear / 128 / 2);
  EXPECT_EQ(bytes("mxfp4"), rest + linear / 2 + linear / 32);
  EXPECT_EQ(bytes("nvfp4"), rest + linear / 2 + linear / 16 + matrices * 4);
  const std::uint64_t inputs = 32ull * (4096 * 6 + 14336);
  EXPECT_EQ(bytes("gptq"), rest + linear / 2 + linear / 128 * 2 + linear / 128 / 2 + inputs * 4);
}

TEST(Schemes, KeepNamesParametersAndSixteenBits) {
  const Made model(llama_8b());
  for (const Precision& precision : precisions()) {
    if (!precision.made_anew()) continue;
    const ModelTree tree = requantize(model.tree, precision, &model.config);
    EXPECT_EQ(tree.parameters(), model.tree.parameters()) << precision.name;
    EXPECT_LT(tree.bytes(), model.tree.bytes()) << precision.name;
    EXPECT_EQ(tree.modules.size(), model.tree.modules.size()) << precision.name;
    EXPECT_THAT(tree.notes, Contains(HasSubstr(std::string(precision.name)))) << precision.name;
    EXPECT_TRUE(is_quantized(tree)) << precision.name;
  }
  EXPECT_FALSE(is_quantized(model.tree));
  const ModelTree fp8 = model.in("fp8");
  EXPECT_EQ(tensor_of(fp8, "lm_head.weight").dtype, DType::kBF16);
  EXPECT_EQ(tensor_of(fp8, "model.embed_tokens.weight").dtype, DType::kBF16);
  EXPECT_EQ(tensor_of(fp8, "model.layers.0.mlp.up_proj.weight").dtype, DType::kF8E4M3);
}

TEST(Schemes, HalveWhatIsWiderThanSixteenBits) {
  const Made model(
      llama(4096, 14336, 2, 32, 8, false, R"(,"torch_dtype":"float32")"));  // the first one counts
  ModelTree wide = build_model_tree("m", &model.config, nullptr, DType::kF32);
  const ModelTree tree = requantize(wide, *find_precision("fp8"), &model.config);
  EXPECT_EQ(tensor_of(tree, "lm_head.weight").dtype, DType::kBF16);
  EXPECT_EQ(tensor_of(tree, "model.norm.weight").dtype, DType::kBF16);
}

TEST(Schemes, TakeExpertsAndLeaveRouters) {
  const ModelTree tree = Made(mixtral()).in("fp8");
  EXPECT_EQ(tensor_of(tree, "model.layers.0.mlp.experts.0.w1.weight").dtype, DType::kF8E4M3);
  EXPECT_TRUE(has(tree, "model.layers.0.mlp.experts.0.w1.weight_scale"));
  EXPECT_EQ(tensor_of(tree, "model.layers.0.mlp.gate.weight").dtype, DType::kBF16);
}

// gpt-oss keeps all experts of a layer in one tensor: what its own checkpoints store of them.
TEST(Schemes, TakeStackedExperts) {
  const Made oss(R"({"model_type":"gpt_oss","architectures":["GptOssForCausalLM"],
      "dtype":"bfloat16","num_hidden_layers":2,"num_local_experts":4})");
  const ModelTree tree = oss.in("mxfp4");
  const std::string at = "model.layers.0.mlp.experts.";
  EXPECT_EQ(tensor_of(tree, at + "gate_up_proj_packed").shape, (Shape{4, 5760, 1440}));
  EXPECT_EQ(tensor_of(tree, at + "gate_up_proj_scale").shape, (Shape{4, 5760, 90}));
  EXPECT_EQ(tensor_of(tree, at + "down_proj_scale").shape, (Shape{4, 2880, 90}));
  EXPECT_EQ(tensor_of(tree, at + "gate_up_proj_bias").dtype, DType::kBF16);
  EXPECT_EQ(tree.parameters(), oss.tree.parameters());
}

TEST(Schemes, SayWhatTheirGroupsDoNotFill) {
  const ModelTree tree = Made(llama(576, 1536, 30, 9, 3, true)).in("int4");  // 576 is 4.5 x 128
  EXPECT_EQ(tensor_of(tree, "model.layers.0.mlp.up_proj.weight").dtype, DType::kBF16);
  EXPECT_TRUE(has(tree, "model.layers.0.mlp.down_proj.weight_packed"));
  EXPECT_THAT(tree.notes, Contains(HasSubstr("180 weights of the blocks stay in 16 bits")));
  const Made odd(llama(576, 864, 2, 9, 3, true));
  EXPECT_EQ(error_of([&] { odd.in("int4"); }),
            "m: no weight of a block can be stored as compressed-tensors 4-bit");
}

// What sees is a file of its own for llama.cpp, and left out by those who write FP8.
TEST(Precisions, LeaveTowersAsTheyAre) {
  const Made model(R"({"model_type":"gemma3","architectures":["Gemma3ForConditionalGeneration"],
      "dtype":"bfloat16","text_config":{"model_type":"gemma3_text","num_hidden_layers":2},
      "vision_config":{"model_type":"siglip_vision_model","num_hidden_layers":2}})");
  for (const char* name : {"fp8", "q4_k_m"}) {
    const ModelTree tree = model.in(name);
    std::set<DType> seen;
    for (const ModelTensor& tensor : tree.tensors) {
      if (!tensor.buffer && tensor.name.find("vision_tower") != tensor.name.npos) {
        seen.insert(tensor.dtype);
      }
    }
    EXPECT_THAT(seen, ::testing::ElementsAre(DType::kBF16)) << name;
  }
}

TEST(Precisions, NeedShapes) {
  ModelTree tree = Made(llama_8b()).tree;
  tree.quantization = "GPTQ 4-bit";
  tree.tensors[5].values = 12;
  EXPECT_THAT(error_of([&] { requantize(tree, *find_precision("fp8"), nullptr); }),
              HasSubstr("m: its GPTQ 4-bit weights cannot be planned in another precision"));
}

}  // namespace
}  // namespace berth

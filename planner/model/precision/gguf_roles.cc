// The names are those that transformers and checkpoints have for what gguf-py's tensor_mapping.py
// calls attn_q, ffn_down and so on; which tensors stay floats is said by
// tensor_allows_quantization() of llama.cpp's src/llama-quant.cpp and by prepare_tensors() of
// convert_hf_to_gguf.py.

#include "planner/model/precision/gguf_roles.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>

#include "planner/model/quant/quantization.h"

namespace berth {
namespace {

using enum GgufRole;

// `stem` is the name of a Linear, or of a parameter that is no `weight`. Where `within` is given, a
// module around it has that in its name (in lower case). The first line that fits decides.
struct NamedRole {
  std::string_view stem;
  std::string_view within;
  GgufRole role;
};

constexpr NamedRole kRoles[] = {
    {"q_proj", "", kQuery},
    {"query", "", kQuery},
    {"wq", "", kQuery},
    {"q", "attention", kQuery},
    {"k_proj", "", kKey},
    {"key", "", kKey},
    {"wk", "", kKey},
    {"k", "attention", kKey},
    {"v_proj", "", kValue},
    {"value", "", kValue},
    {"wv", "", kValue},
    {"v", "attention", kValue},
    {"qkv_proj", "", kValue},
    {"query_key_value", "", kValue},
    {"c_attn", "", kValue},
    {"Wqkv", "", kValue},
    {"wqkv", "", kValue},
    {"qkv", "", kValue},
    {"in_proj_qkv", "linear_attn", kValue},
    {"in_proj_qkvz", "linear_attn", kValue},
    {"kv_b_proj", "", kValue},  // where it is one tensor; see requantize.cc
    {"out_proj", "linear_attn", kOther},
    {"o_proj", "", kAttentionOut},
    {"out_proj", "attn", kAttentionOut},
    {"out_proj", "attention", kAttentionOut},
    {"dense", "attention", kAttentionOut},
    {"c_proj", "attn", kAttentionOut},
    {"wo", "attention", kAttentionOut},
    {"Wo", "attn", kAttentionOut},
    {"o", "attention", kAttentionOut},
    {"down_proj", "", kDown},
    {"w2", "", kDown},
    {"fc2", "", kDown},
    {"dense_4h_to_h", "", kDown},
    {"c_proj", "mlp", kDown},
    {"dense", "output", kDown},
    {"wo", "", kDown},
    {"Wo", "", kDown},
    {"output_linear", "", kDown},
    {"up_proj", "", kUp},
    {"gate_up_proj", "", kUp},
    {"w3", "", kUp},
    {"fc1", "", kUp},
    {"dense_h_to_4h", "", kUp},
    {"c_fc", "", kUp},
    {"wi", "", kUp},
    {"Wi", "", kUp},
    {"wi_1", "", kUp},
    {"dense", "intermediate", kUp},
    {"input_linear", "", kUp},
    {"gate_proj", "", kGate},
    {"w1", "", kGate},
    {"wi_0", "", kGate},
    {"embed_tokens_per_layer", "", kEmbedding},
};

// Matrices that stay floats: those with a line have it in the name of their module.
struct KeptFloat {
  std::string_view word;
  GgufFloat as;
};
constexpr KeptFloat kKept[] = {
    {"router", GgufFloat::kWide},
    {"wpe", GgufFloat::kWide},
    {"position_embeddings", GgufFloat::kWide},
    {"embed_positions", GgufFloat::kWide},
    {"token_type_embeddings", GgufFloat::kWide},
    {"relative_attention_bias", GgufFloat::kWide},
    {"altup", GgufFloat::kWide},
    {"laurel", GgufFloat::kHalf},
    {"per_layer_model_projection", GgufFloat::kHalf},
};

// By `model_type` and layers, for which models llama.cpp has the size 70B (load_arch_hparams() of
// src/models/*.cpp).
struct Seventy {
  std::string_view model_type;
  std::size_t layers;
};
constexpr Seventy kSeventy[] = {
    {"llama", 80}, {"mistral", 80}, {"qwen2", 80}, {"nemotron-nas", 80}, {"jais2", 68}};

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view before_leaf(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == name.npos ? std::string_view() : name.substr(0, dot);
}

std::uint64_t from_config(const ModelConfig* config, const char* key) {
  if (config == nullptr) return 0;
  const ModelConfig::Value* value = config->find(key);
  const auto* whole = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return whole == nullptr || *whole < 0 ? 0 : static_cast<std::uint64_t>(*whole);
}

// The rows of the first query and the first key that the layers have, by which heads are shared.
std::uint64_t queries_per_key(const ModelTree& tree) {
  std::uint64_t query = 0;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.shape.size() != 2) continue;
    const GgufRole role = gguf_role(tree, tensor, false);
    if (role == kQuery && query == 0) query = tensor.shape[0];
    if (role == kKey && query > 0 && tensor.shape[0] > 0) return query / tensor.shape[0];
  }
  return 1;
}

}  // namespace

GgufModel gguf_model(const ModelTree& tree, const ModelConfig* config) {
  GgufModel model;
  for (const LayerFacts& layer : tree.facts.layers) {
    model.experts = std::max(model.experts, layer.experts);
  }
  const std::uint64_t heads = from_config(config, "num_attention_heads");
  const std::uint64_t keys = from_config(config, "num_key_value_heads");
  model.queries_per_key = heads > 0 && keys > 0 ? heads / keys : queries_per_key(tree);
  model.is_70b = std::ranges::any_of(kSeventy, [&](const Seventy& size) {
    return tree.model_type == size.model_type && tree.facts.layers.size() == size.layers;
  });
  model.is_falcon = tree.model_type == "falcon";
  return model;
}

GgufRole gguf_role(const ModelTree& tree, const ModelTensor& tensor, bool tied) {
  if (tensor.module == tree.facts.embedding) return tied ? kHead : kEmbedding;
  if (tensor.module == tree.facts.head) return kHead;
  const std::string_view leaf = leaf_of(tensor.name);
  const std::string_view module = before_leaf(tensor.name);
  const bool plain = leaf == "weight";
  const std::string_view stem = plain ? leaf_of(module) : leaf;
  for (const NamedRole& named : kRoles) {
    if (named.stem != stem) continue;
    if (named.within.empty()) return named.role;
    const std::string around = lower(plain ? before_leaf(module) : module);
    if (around.find(named.within) != around.npos) return named.role;
  }
  return kOther;
}

GgufFloat gguf_float(const ModelTensor& tensor, const std::optional<Matrix>& matrix) {
  const std::string_view module = before_leaf(tensor.name);
  const bool convolves = leaf_of(module).find("conv") != leaf_of(module).npos;
  // Everything of one dimension is F32, and so are short convolutions and what is no weight.
  if (!matrix) {
    const bool wide = tensor.shape.size() < 2 || convolves || leaf_of(tensor.name) != "weight";
    return wide ? GgufFloat::kWide : GgufFloat::kHalf;
  }
  if (convolves || leaf_of(module) == "gate") return GgufFloat::kWide;
  if (matrix->count == 1 && (matrix->out == 1 || matrix->in == 1)) return GgufFloat::kWide;
  for (const KeptFloat& kept : kKept) {
    if (module.find(kept.word) != module.npos) return kept.as;
  }
  return GgufFloat::kNotFloat;
}

bool has_tied_head(const ModelTree& tree) {
  if (tree.facts.head == kNone) return true;
  return std::ranges::none_of(tree.modules[tree.facts.head].tensors, [&](TensorId id) {
    const ModelTensor& tensor = tree.tensors[id];
    return tensor.tied_to == kNone && tensor.shape.size() == 2 &&
           std::ranges::none_of(tree.ties, [&](const auto& group) { return group[0] == id; });
  });
}

}  // namespace berth

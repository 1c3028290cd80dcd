// Writes config.json from GGUF's metadata. The keys are those of gguf-py's constants.py; the words
// are transformers'.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "berth/error.h"
#include "planner/base/json_text.h"
#include "planner/base/quote.h"
#include "planner/model/gguf/family.h"

namespace berth {
namespace {

// How Llama 3.1 and later scale rotary frequencies. The file holds only the resulting factors.
constexpr double kLlama3Context = 8192;
constexpr double kLlama3Low = 1;
constexpr double kLlama3High = 4;

// The number by which llama3's rule divides the frequency of a pair of dimensions.
double llama3_divisor(double base, std::size_t pair, std::uint64_t dimensions, double factor) {
  const double exponent = 2.0 * static_cast<double>(pair) / static_cast<double>(dimensions);
  const double wavelength = 2 * std::numbers::pi * std::pow(base, exponent);
  if (wavelength < kLlama3Context / kLlama3High) return 1;
  if (wavelength > kLlama3Context / kLlama3Low) return factor;
  const double smooth = (kLlama3Context / wavelength - kLlama3Low) / (kLlama3High - kLlama3Low);
  return 1 / ((1 - smooth) / factor + smooth);
}

bool is_llama3(const std::vector<float>& divisors, double base, std::uint64_t dimensions) {
  const double factor = divisors.back();
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double expected = llama3_divisor(base, i, dimensions, factor);
    if (!(std::abs(divisors[i] - expected) <= 1e-3 * expected)) return false;
  }
  return true;
}

// The transformers class of the model with its head.
std::string_view class_of(std::string_view model_type) {
  constexpr std::pair<std::string_view, std::string_view> kClasses[] = {
      {"llama", "LlamaForCausalLM"},        {"mixtral", "MixtralForCausalLM"},
      {"qwen2", "Qwen2ForCausalLM"},        {"qwen3", "Qwen3ForCausalLM"},
      {"qwen2_moe", "Qwen2MoeForCausalLM"}, {"qwen3_moe", "Qwen3MoeForCausalLM"},
      {"gemma", "GemmaForCausalLM"},        {"gemma2", "Gemma2ForCausalLM"},
      {"gemma3_text", "Gemma3ForCausalLM"}, {"phi3", "Phi3ForCausalLM"},
      {"gpt2", "GPT2LMHeadModel"},
  };
  const auto* found = std::ranges::find(kClasses, model_type,
                                        &std::pair<std::string_view, std::string_view>::first);
  if (found == std::end(kClasses)) throw Error("no class for " + quote(model_type));
  return found->second;
}

class ConfigText {
 public:
  ConfigText(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
             const Checkpoint& checkpoint, const std::vector<float>& rope_factors)
      : header_(header),
        family_(family),
        heads_(heads),
        checkpoint_(checkpoint),
        rope_factors_(rope_factors),
        architecture_(family.architecture) {}

  std::string write() {
    json_.add("model_type", family_.model_type);
    json_.add_json("architectures", "[\"" + std::string(class_of(family_.model_type)) + "\"]");
    if (family_.model_type == "gpt2") {
      write_gpt2();
    } else {
      write_rotary_model();
    }
    json_.add("vocab_size", vocabulary());
    json_.add("tie_word_embeddings", !has("lm_head.weight"));
    add_special_ids(json_, header_);
    return json_.take() + "\n";
  }

 private:
  std::string key(std::string_view name) const { return architecture_ + "." + std::string(name); }
  std::optional<std::uint64_t> find(std::string_view name) const {
    return header_.unsigned_integer(key(name));
  }
  std::uint64_t require(std::string_view name) const {
    const auto value = find(name);
    if (!value) header_.fail(key(name), "is missing");
    return *value;
  }
  // Reads one number, or a list of equal ones.
  std::uint64_t require_same(std::string_view name) const {
    const std::vector<std::int64_t> values = header_.integers(key(name));
    if (values.empty()) header_.fail(key(name), "is missing");
    for (const std::int64_t value : values) {
      if (value != values[0] || value < 0) {
        header_.fail(key(name), "differs from layer to layer, which is not supported");
      }
    }
    return static_cast<std::uint64_t>(values[0]);
  }

  const TensorInfo* find_tensor(std::string_view name) const {
    const auto found = std::ranges::find(checkpoint_.tensors, name, &TensorInfo::name);
    return found == checkpoint_.tensors.end() ? nullptr : &*found;
  }
  bool has(std::string_view name) const { return find_tensor(name) != nullptr; }

  void copy(std::string_view theirs, std::string_view ours) {
    if (const auto value = find(ours)) json_.add(theirs, *value);
  }
  void copy_number(std::string_view theirs, std::string_view ours) {
    if (const auto value = header_.number(key(ours))) json_.add(theirs, static_cast<float>(*value));
  }

  void write_gpt2() {
    json_.add("n_embd", require("embedding_length"));
    json_.add("n_layer", require("block_count"));
    json_.add("n_head", heads_.query);
    json_.add("n_positions", require("context_length"));
    json_.add("n_inner", require_same("feed_forward_length"));
    copy_number("layer_norm_epsilon", "attention.layer_norm_epsilon");
  }

  void write_rotary_model() {
    const bool gemma = family_.model_type.starts_with("gemma");
    json_.add("hidden_size", require("embedding_length"));
    json_.add("num_hidden_layers", require("block_count"));
    json_.add("intermediate_size", require_same("feed_forward_length"));
    json_.add("num_attention_heads", heads_.query);
    json_.add("num_key_value_heads", heads_.key);
    json_.add("head_dim", heads_.dimensions);
    json_.add("max_position_embeddings", require("context_length"));
    copy_number("rms_norm_eps", "attention.layer_norm_rms_epsilon");
    json_.add(gemma ? "hidden_activation" : "hidden_act", gemma ? "gelu_pytorch_tanh" : "silu");
    if (family_.model_type == "llama") {
      json_.add("attention_bias", has("model.layers.0.self_attn.q_proj.bias"));
      json_.add("mlp_bias", has("model.layers.0.mlp.up_proj.bias"));
    }
    write_rotary();
    write_window();
    write_experts();
    if (family_.model_type == "gemma2" || family_.model_type == "gemma3_text") write_gemma();
  }

  void write_rotary() {
    copy_number("rope_theta", "rope.freq_base");
    const double base = header_.number(key("rope.freq_base")).value_or(10000);
    const std::string_view scaling = header_.text(key("rope.scaling.type")).value_or("none");
    JsonObject rope;
    if (!rope_factors_.empty()) {
      if (is_llama3(rope_factors_, base, heads_.dimensions)) {
        rope.add("rope_type", "llama3");
        rope.add("factor", rope_factors_.back());
        rope.add("low_freq_factor", static_cast<float>(kLlama3Low));
        rope.add("high_freq_factor", static_cast<float>(kLlama3High));
        rope.add("original_max_position_embeddings", static_cast<std::uint64_t>(kLlama3Context));
      } else {
        rope.add("rope_type", "rope_freqs");  // factors that no rule of transformers would give
      }
    } else if (scaling != "none") {
      rope.add("rope_type", scaling);
      for (const auto& [theirs, ours] :
           {std::pair("factor", "rope.scaling.factor"),
            std::pair("attention_factor", "rope.scaling.attn_factor")}) {
        if (const auto value = header_.number(key(ours))) {
          rope.add(theirs, static_cast<float>(*value));
        }
      }
      if (const auto context = find("rope.scaling.original_context_length")) {
        rope.add("original_max_position_embeddings", *context);
      }
    } else if (family_.model_type == "phi3" && longrope()) {
      rope.add("rope_type", "longrope");
    }
    if (const std::string text = rope.take(); text != "{}") json_.add_json("rope_scaling", text);
    const auto dimensions = find("rope.dimension_count");
    if (dimensions && *dimensions < heads_.dimensions) {
      json_.add("partial_rotary_factor",
                static_cast<float>(*dimensions) / static_cast<float>(heads_.dimensions));
    }
  }

  bool longrope() const {
    return std::ranges::any_of(header_.tensors(), [](const GgufTensor& tensor) {
      return tensor.name.starts_with("rope_factors_");
    });
  }

  // 0 means that there is no window. A window as long as the context hides nothing.
  void write_window() {
    const auto window = find("attention.sliding_window");
    if (!window || *window == 0) return;
    if (family_.model_type == "phi3" && *window >= require("context_length")) return;
    if (family_.model_type.starts_with("qwen")) return;  // transformers does not use it there
    json_.add("sliding_window", *window);
  }

  void write_experts() {
    const std::uint64_t experts = find("expert_count").value_or(0);
    if (experts == 0) return;
    json_.add(family_.model_type == "mixtral" ? "num_local_experts" : "num_experts", experts);
    json_.add("num_experts_per_tok", require("expert_used_count"));
    if (family_.model_type == "mixtral") return;
    json_.add("decoder_sparse_step", 1);
    json_.add("norm_topk_prob", family_.model_type == "qwen3_moe");
    copy("moe_intermediate_size", "expert_feed_forward_length");
    copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length");
  }

  // The scale of attention is not in the file. It is the head's size, except in the 27B models (46
  // and 62 layers), where it is the width divided by the number of heads.
  void write_gemma() {
    copy_number("attn_logit_softcapping", "attn_logit_softcapping");
    copy_number("final_logit_softcapping", "final_logit_softcapping");
    const bool largest = require("block_count") == (family_.model_type == "gemma2" ? 46 : 62);
    json_.add("query_pre_attn_scalar",
              largest ? require("embedding_length") / heads_.query : heads_.dimensions);
  }

  std::uint64_t vocabulary() const {
    const bool gpt2 = family_.model_type == "gpt2";
    const TensorInfo* embedding =
        find_tensor(gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight");
    if (embedding == nullptr || embedding->shape.empty()) {
      throw Error(header_.source() + ": tensor 'token_embd.weight' is missing");
    }
    return embedding->shape[0];
  }

  const GgufHeader& header_;
  const GgufFamily& family_;
  const GgufHeads& heads_;
  const Checkpoint& checkpoint_;
  const std::vector<float>& rope_factors_;
  std::string architecture_;
  JsonObject json_;
};

}  // namespace

void add_special_ids(JsonObject& json, const GgufHeader& header) {
  const auto id = [&](const char* name) {
    return header.unsigned_integer("tokenizer.ggml." + std::string(name) + "_token_id");
  };
  if (const auto bos = id("bos")) json.add("bos_token_id", *bos);
  const auto eos = id("eos");
  const auto eot = id("eot");
  if (eos && eot && *eos != *eot) {
    json.add_json("eos_token_id", "[" + std::to_string(*eos) + ", " + std::to_string(*eot) + "]");
  } else if (eos || eot) {
    json.add("eos_token_id", eos ? *eos : *eot);
  }
  if (const auto pad = id("padding")) json.add("pad_token_id", *pad);
}

GgufHeads gguf_heads(const GgufHeader& header, const std::string& architecture) {
  const auto same = [&](const std::string& key) -> std::optional<std::uint64_t> {
    const std::vector<std::int64_t> values = header.integers(key);
    if (values.empty()) return std::nullopt;
    for (const std::int64_t value : values) {
      if (value != values[0] || value <= 0) {
        header.fail(key, "is not one positive number for all layers");
      }
    }
    return static_cast<std::uint64_t>(values[0]);
  };
  GgufHeads heads;
  const std::string count = architecture + ".attention.head_count";
  const auto query = same(count);
  if (!query) header.fail(count, "is missing");
  heads.query = *query;
  heads.key = same(count + "_kv").value_or(*query);
  const auto width = header.unsigned_integer(architecture + ".embedding_length");
  heads.dimensions =
      same(architecture + ".attention.key_length").value_or(width.value_or(0) / heads.query);
  return heads;
}

std::string gguf_config_json(const GgufHeader& header, const GgufFamily& family,
                             const GgufHeads& heads, const Checkpoint& tensors,
                             const std::vector<float>& rope_factors) {
  return ConfigText(header, family, heads, tensors, rope_factors).write();
}

}  // namespace berth

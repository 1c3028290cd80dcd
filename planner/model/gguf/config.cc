// Writes config.json from GGUF's metadata. The keys are those of gguf-py's constants.py; the words
// are transformers'.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "berth/error.h"
#include "planner/base/json_writer.h"
#include "planner/base/quote.h"
#include "planner/model/gguf/family.h"
#include "planner/model/gguf/keys.h"
#include "planner/model/gguf/windows.h"

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

bool names_end(const GgufHeader& header) {
  return header.unsigned_integer("tokenizer.ggml.eos_token_id") ||
         header.unsigned_integer("tokenizer.ggml.eot_token_id");
}

class ConfigText {
 public:
  ConfigText(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
             const Checkpoint& checkpoint, const GgufRopeFactors& rope_factors)
      : header_(header),
        family_(family),
        heads_(heads),
        checkpoint_(checkpoint),
        rope_factors_(rope_factors),
        architecture_(family.architecture) {}

  std::string write() {
    json_.begin_object().member("model_type", family_.model_type);
    json_.key("architectures").json("[\"" + std::string(class_of(family_.model_type)) + "\"]");
    if (family_.model_type == "gpt2") {
      write_gpt2();
    } else {
      write_rotary_model();
    }
    json_.member("vocab_size", vocabulary());
    json_.member("tie_word_embeddings", !has("lm_head.weight"));
    add_special_ids(json_, header_);
    if (!names_end(header_)) json_.key("eos_token_id").null();  // not the family's default
    return json_.end_object().take();
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
    if (const auto value = find(ours)) json_.member(theirs, *value);
  }
  void copy_number(std::string_view theirs, std::string_view ours) {
    if (const auto value = header_.number(key(ours)))
      json_.key(theirs).real(static_cast<float>(*value));
  }

  void write_gpt2() {
    json_.member("n_embd", require("embedding_length"));
    json_.member("n_layer", require("block_count"));
    json_.member("n_head", heads_.query);
    json_.member("n_positions", require("context_length"));
    json_.member("n_inner", require_same("feed_forward_length"));
    copy_number("layer_norm_epsilon", "attention.layer_norm_epsilon");
  }

  void write_rotary_model() {
    const bool gemma = family_.model_type.starts_with("gemma");
    json_.member("hidden_size", require("embedding_length"));
    json_.member("num_hidden_layers", require("block_count"));
    json_.member("intermediate_size", require_same("feed_forward_length"));
    json_.member("num_attention_heads", heads_.query);
    json_.member("num_key_value_heads", heads_.key);
    json_.member("head_dim", heads_.dimensions);
    json_.member("max_position_embeddings", require("context_length"));
    copy_number("rms_norm_eps", "attention.layer_norm_rms_epsilon");
    json_.member(gemma ? "hidden_activation" : "hidden_act", gemma ? "gelu_pytorch_tanh" : "silu");
    if (family_.model_type == "llama") {
      json_.member("attention_bias", has("model.layers.0.self_attn.q_proj.bias"));
      json_.member("mlp_bias", has("model.layers.0.mlp.up_proj.bias"));
    }
    write_rotary();
    write_window();
    write_experts();
    if (family_.model_type == "gemma2" || family_.model_type == "gemma3_text") write_gemma();
  }

  void write_rotary() {
    const double base = header_.number(key("rope.freq_base")).value_or(10000);
    json_.key("rope_theta").real(static_cast<float>(base));
    JsonWriter rope(JsonForm::kIndented, JsonEscapes::kPlain);
    rope.begin_object();
    write_scaling(base, rope);
    if (const std::string text = rope.end_object().take_value(); text != "{}")
      json_.key("rope_scaling").json(text);
    const auto dimensions = find("rope.dimension_count");
    if (dimensions && *dimensions < heads_.dimensions) {
      json_.key("partial_rotary_factor")
          .real(static_cast<float>(*dimensions) / static_cast<float>(heads_.dimensions));
    }
  }

  void write_scaling(double base, JsonWriter& rope) const {
    // As llama.cpp reads it: scaling is linear where a file does not say otherwise, the factor has
    // an older name, and 0 is none. A file whose type is "none" is never scaled.
    const std::string type(header_.text(key("rope.scaling.type")).value_or("linear"));
    auto factor = header_.number(key("rope.scaling.factor"));
    if (!factor) factor = header_.number(key("rope.scale_linear"));
    if (!factor || *factor == 0) factor = 1;
    const auto dimensions = find("rope.dimension_count");
    const bool partial = dimensions && *dimensions < heads_.dimensions;
    if (!rope_factors_.all.empty()) {
      write_divisors(base, rope);
    } else if (type == "longrope" || (family_.model_type == "phi3" && longrope())) {
      write_longrope(rope);
    } else if (type != "none" && (type != "linear" || *factor != 1)) {
      rope.member("rope_type", type);
      rope.key("factor").real(static_cast<float>(*factor));
      if (const auto value = header_.number(key("rope.scaling.attn_factor"))) {
        rope.key("attention_factor").real(static_cast<float>(*value));
      }
      if (const auto context = find("rope.scaling.original_context_length")) {
        rope.member("original_max_position_embeddings", *context);
      }
    } else if (partial && family_.model_type != "phi3") {
      // transformers rotates whole heads of these families, unless the type says otherwise.
      rope.member("rope_type", "linear");
      rope.key("factor").real(1);
    }
  }

  void write_divisors(double base, JsonWriter& rope) const {
    if (!is_llama3(rope_factors_.all, base, heads_.dimensions)) {
      rope.member("rope_type", "rope_freqs");  // factors that no rule of transformers would give
      return;
    }
    rope.member("rope_type", "llama3");
    rope.key("factor").real(rope_factors_.all.back());
    rope.key("low_freq_factor").real(static_cast<float>(kLlama3Low));
    rope.key("high_freq_factor").real(static_cast<float>(kLlama3High));
    rope.member("original_max_position_embeddings", static_cast<std::uint64_t>(kLlama3Context));
  }

  void write_longrope(JsonWriter& rope) const {
    rope.member("rope_type", "longrope");
    for (const auto& [name, factors] : {std::pair("short_factor", &rope_factors_.of_short),
                                        std::pair("long_factor", &rope_factors_.of_long)}) {
      if (factors->empty()) continue;
      rope.key(name).begin_array();
      for (const float factor : *factors) rope.real(factor);
      rope.end_array();
    }
    if (const auto context = find("rope.scaling.original_context_length")) {
      rope.member("original_max_position_embeddings", *context);
    }
  }

  bool longrope() const {
    return std::ranges::any_of(header_.tensors(), [](const GgufTensor& tensor) {
      return tensor.name.starts_with("rope_factors_");
    });
  }

  // 0 means that there is no window. A window as long as the context hides nothing. Without the key
  // llama.cpp has none for gemma3; its default for gemma2 is that of transformers.
  void write_window() {
    const auto window = find("attention.sliding_window");
    const bool none = window ? *window == 0 : family_.model_type == "gemma3_text";
    if (none && family_.model_type.starts_with("gemma")) json_.key("sliding_window").null();
    if (!window || none) return;
    if (family_.model_type == "phi3" && *window >= require("context_length")) return;
    if (family_.model_type.starts_with("qwen")) return;  // transformers does not use it there
    json_.member("sliding_window", *window);
    if (family_.model_type.starts_with("gemma")) write_layer_types();
  }

  // Which layers have the window, if the file says so; else it is where transformers has it.
  void write_layer_types() {
    if (!header_.has(key("attention.sliding_window_pattern"))) return;
    std::vector<std::string> none;  // nothing is guessed where there is a pattern
    const GgufKeys keys(header_, architecture_);
    json_.key("layer_types").begin_array();
    for (const std::uint64_t window :
         gguf_windows(keys, architecture_, require("block_count"), none)) {
      json_.value(window > 0 ? "sliding_attention" : "full_attention");
    }
    json_.end_array();
  }

  void write_experts() {
    const std::uint64_t experts = find("expert_count").value_or(0);
    if (experts == 0) return;
    json_.member(family_.model_type == "mixtral" ? "num_local_experts" : "num_experts", experts);
    json_.member("num_experts_per_tok", require("expert_used_count"));
    if (family_.model_type == "mixtral") return;
    json_.member("decoder_sparse_step", 1);
    json_.member("norm_topk_prob", family_.model_type == "qwen3_moe");
    copy("moe_intermediate_size", "expert_feed_forward_length");
    copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length");
  }

  // The scale of attention is not in the file. It is the head's size, except in the 27B models (46
  // and 62 layers), where it is the width divided by the number of heads.
  void write_gemma() {
    copy_number("attn_logit_softcapping", "attn_logit_softcapping");
    copy_number("final_logit_softcapping", "final_logit_softcapping");
    const bool largest = require("block_count") == (family_.model_type == "gemma2" ? 46 : 62);
    json_.member("query_pre_attn_scalar",
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
  const GgufRopeFactors& rope_factors_;
  std::string architecture_;
  JsonWriter json_{JsonForm::kIndented, JsonEscapes::kPlain};
};

}  // namespace

void add_special_ids(JsonWriter& json, const GgufHeader& header) {
  const auto id = [&](const char* name) {
    return header.unsigned_integer("tokenizer.ggml." + std::string(name) + "_token_id");
  };
  if (const auto bos = id("bos")) json.member("bos_token_id", *bos);
  const auto eos = id("eos");
  const auto eot = id("eot");
  if (eos && eot && *eos != *eot) {
    json.key("eos_token_id").json("[" + std::to_string(*eos) + ", " + std::to_string(*eot) + "]");
  } else if (eos || eot) {
    json.member("eos_token_id", eos ? *eos : *eot);
  }
  if (const auto pad = id("padding")) json.member("pad_token_id", *pad);
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
                             const GgufRopeFactors& rope_factors) {
  return ConfigText(header, family, heads, tensors, rope_factors).write();
}

}  // namespace berth

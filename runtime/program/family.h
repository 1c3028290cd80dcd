// What a model computes, as data: one table holds the differences between model families, and a
// recipe is what a config.json makes of a row of it. Defaults are not here: the config that comes
// with a Model is complete. Does not include torch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

enum class Norm : std::uint8_t {
  kRms,         // x / rms(x), in the activations' dtype, times w
  kRmsPlusOne,  // x / rms(x) times (1 + w), all in float32
  kLayer        // mean and variance, with a bias
};

enum class FeedForward : std::uint8_t {
  kPlain,       // down(act(up(x)))
  kGated,       // down(act(gate(x)) * up(x))
  kFusedGated,  // the same, gate and up in one matrix, gate first
  kExperts      // a router picks some of many gated ones
};

enum class Activation : std::uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

// One row of the table. Names are those of the module tree; names of modules within a layer are
// without the layer's own name. An empty name stands for a module that the family does not have,
// and an empty key for a setting that it does not know.
struct Family {
  std::string_view model_type;
  std::string_view embedding;
  std::string_view positions;  // the learned position embedding; empty: rotary
  std::string_view final_norm;
  std::string_view head;
  Norm norm;
  std::string_view norm_eps_key;
  std::string_view kv_heads_key;  // empty: as many as query heads
  bool partial_rotary;            // partial_rotary_factor counts; else whole heads rotate
  bool layer_types;               // `layer_types` says which layers have a window
  bool scales_scores;             // knows scale_attn_weights and scale_attn_by_inverse_layer_idx
  std::string_view query_scalar_key;  // what scores are scaled by; empty: the head's size
  std::string_view attention_cap_key, logit_cap_key;

  std::string_view attention_norm;
  std::string_view query, key, value;     // either three matrices
  std::string_view fused_qkv;             // or one, with query, key and value in this order
  std::string_view query_norm, key_norm;  // of each head
  std::string_view attention_out;
  std::string_view attention_out_norm;  // before the residual is added

  std::string_view feed_forward_norm;
  FeedForward feed_forward;
  std::string_view gate, up, down;  // kFusedGated: `up` holds both; kExperts: of one expert
  std::string_view feed_forward_out_norm;

  std::string_view activation_key;
  bool transposed_weights;  // as in GPT-2's Conv1D: [in, out] instead of [out, in]
};

// Rotary embedding: the angles of position p are p x inverse_frequency.
struct Rotary {
  std::vector<float> inverse_frequency;  // half as many as there are dimensions that rotate
};

struct LayerRecipe {
  std::string name;          // "model.layers.3"
  std::uint64_t window = 0;  // how many keys a query sees, its own included; 0: all
  double attention_scale = 1;
};

// All that the code needs to know to compute a model: its family, and every figure.
struct Recipe {
  const Family* family = nullptr;
  std::vector<LayerRecipe> layers;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double norm_eps = 0;
  Activation activation = Activation::kSilu;
  std::optional<Rotary> rotary;
  double embedding_scale = 1;
  double attention_softcap = 0;  // 0: none
  double logit_softcap = 0;      // 0: none
  std::int64_t experts = 0;
  std::int64_t experts_per_token = 0;
  std::uint64_t max_positions = 0;  // 0: unknown
};

// The recipe for a model. Throws Error where it cannot be run: it has no config.json, its
// model_type is not in the table (the message lists those that are), or a field of config.json asks
// for something that is not computed here.
Recipe make_recipe(const Model& model);

// The rotary frequencies that `rope_parameters` asks for, of type default, linear or llama3;
// formulas are those of transformers (modeling_rope_utils.py). Throws Error for other types, and
// where transformers cannot compute with the settings either.
Rotary make_rotary(const ModelConfig& config, const Family& family, std::int64_t head_dim);

}  // namespace berth

// What a model computes, as data: the differences between families in one table, and what a
// config.json makes of them. Torch-free.
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

// One row of the table. Module names as in the module tree, below the layer's own name; an empty
// name is a module the family does not have.
struct Family {
  std::string_view model_type;
  std::string_view embedding;
  std::string_view positions;  // learned position embedding; empty: rotary
  std::string_view final_norm;
  std::string_view head;
  Norm norm;
  std::string_view norm_eps_key;
  double norm_eps;    // where the config names none
  double rope_theta;  // likewise

  std::string_view attention_norm;
  std::string_view query, key, value;     // apart, or
  std::string_view fused_qkv;             // in one matrix, in this order
  std::string_view query_norm, key_norm;  // on each head
  std::string_view attention_out;
  std::string_view attention_out_norm;  // before the residual is added

  std::string_view feed_forward_norm;
  FeedForward feed_forward;
  std::string_view gate, up, down;  // kFusedGated: `up` holds both; kExperts: of one expert
  std::string_view feed_forward_out_norm;

  std::string_view activation_key;
  std::string_view activation;  // where the config names none
  bool transposed_weights;      // Conv1D: [in, out] instead of [out, in]
};

// Rotary embedding: angles of position p are p x inverse_frequency.
struct Rotary {
  std::vector<float> inverse_frequency;  // half as many as the dimensions that rotate
};

struct LayerRecipe {
  std::string name;          // "model.layers.3"
  std::uint64_t window = 0;  // keys a query sees, itself included; 0: all before it
  double attention_scale = 1;
};

// A model ready to be computed: the family and every figure its code needs.
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

// Throws Error for a model that cannot be run: no config, an unknown model_type (the message lists
// those that can be run), or a config field with an effect that is not computed here.
Recipe make_recipe(const Model& model);

// Rotary frequencies as rope_parameters says: default, linear or llama3. Error for other types.
// `theta` is the base where the config names none.
Rotary make_rotary(const ModelConfig& config, std::int64_t head_dim, double theta);

}  // namespace berth

// What a config.json makes of a family's row: all figures that the code needs to compute a model.
// Defaults are not here: the config that comes with a Model is complete. Does not include torch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"
#include "runtime/program/activation.h"
#include "runtime/program/family.h"
#include "runtime/program/mixing.h"
#include "runtime/program/rotary.h"
#include "runtime/program/routing.h"

namespace berth {

struct LayerRecipe {
  std::string name;          // "model.layers.3"
  std::uint64_t window = 0;  // how many keys a query sees, its own included; 0: all
  double attention_scale = 1;
  Mixing mixing = Mixing::kAttention;
  std::string_view attention_norm;  // before a block; empty: none
  std::string_view feed_forward_norm;
  std::optional<std::size_t> rotary;  // into Recipe::rotaries; nothing: no rotation
  bool head_norms = false;            // queries and keys are normalized
  bool experts = false;               // else its feed-forward block is the same for all positions
  bool shared = false;                // a block for all positions stands beside the experts

  /// The full name of a module of the layer, or of one of its blocks.
  std::string module(std::string_view own) const { return name + "." + std::string(own); }
  std::string module(std::string_view block, std::string_view own) const {
    return module(block) + "." + std::string(own);
  }
};

/// The settings of experts whose gates are clamped.
struct ClampedExperts {
  double alpha = 0;
  double limit = 0;
};

struct Recipe {
  const Family* family = nullptr;
  std::vector<LayerRecipe> layers;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double norm_eps = 0;
  bool parallel = false;  // the two blocks of a layer see the same stream
  Activation activation = Activation::kSilu;
  std::vector<Rotary> rotaries;
  double embedding_scale = 1;
  double residual_scale = 1;     // of what blocks add to the stream
  double logit_scale = 1;        // before the cap
  double clip = 0;               // of queries, keys and values; 0: none
  double attention_softcap = 0;  // 0: none
  double logit_softcap = 0;      // 0: none
  Routing routing;
  std::optional<ClampedExperts> clamped;
  std::uint64_t restarts_after = 0;    // positions: a sequence that grows beyond is computed anew
  std::optional<LatentSizes> latent;   // of the layers with latent attention
  std::optional<LinearSizes> linear;   // of those with linear attention
  std::size_t convolution_kernel = 0;  // positions that the layers with short convolutions see
  std::uint64_t max_positions = 0;     // 0: unknown
};

/// The full names of the modules where a layer's attention, and what comes after it, are computed.
/// The stream goes there where no norm before it has a place of its own.
std::string attention_home(const Family& family, const LayerRecipe& layer);
std::string feed_forward_home(const Family& family, const LayerRecipe& layer);

// The recipe for a model. Throws Error where it cannot be run: it has no config.json, its
// model_type is not in the table (the message lists those that are), or a field of config.json asks
// for something that is not computed here.
Recipe make_recipe(const Model& model);

}  // namespace berth

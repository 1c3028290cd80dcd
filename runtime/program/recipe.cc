#include "runtime/program/recipe.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/model/tree/config.h"

namespace berth {
namespace {

const Family& find_family(const ModelConfig& config) {
  const auto text = config.text("text_config.model_type");
  std::string name(config.model_type());
  std::vector<std::string_view> names;
  for (const Family& family : families()) {
    if (std::ranges::find(names, family.model_type) == names.end()) {
      names.push_back(family.model_type);
    }
    if (family.model_type != config.model_type()) continue;
    if (family.text_type.empty() || !text || *text == family.text_type) return family;
    name = config.model_type() + " around " + *text;
  }
  throw Error(config.source() + ": model_type " + quote(name) + " cannot be run (these can: " +
              join(names, ", ", [](std::string_view one) { return one; }) + ")");
}

[[noreturn]] void fail(const ModelConfig& config, std::string_view key, const std::string& what) {
  throw Error(config.source() + ": " + std::string(key) + ": " + what);
}

std::string require_text(const ModelConfig& config, std::string_view key) {
  const auto value = config.text(key);
  if (!value) fail(config, key, "missing");
  return *value;
}

Activation find_activation(const ModelConfig& config, const Family& family) {
  if (family.feed_forward.activation_key.empty()) return Activation::kSilu;
  const std::string name = require_text(config, family.feed_forward.activation_key);
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu" && !family.feed_forward.gelu_is_tanh) return Activation::kGelu;
  if (name == "gelu" || name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return Activation::kGeluTanh;  // names of one formula
  }
  if (name == "relu") return Activation::kRelu;
  if (name == "relu2") return Activation::kReluSquared;
  if (name == "xielu" && !family.feed_forward.activation.empty()) return Activation::kXielu;
  fail(
      config, family.feed_forward.activation_key,
      quote(name) + " cannot be run (silu, gelu, gelu_new, gelu_pytorch_tanh, relu and relu2 can)");
}

// Throws Error for fields that change what a model computes in ways that the code here cannot.
void refuse_unsupported(const ModelConfig& config) {
  for (const char* key : {"add_cross_attention", "use_bidirectional_attention", "alibi"}) {
    if (config.boolean(key).value_or(false)) {
      throw Error(config.source() + ": " + key + ": true cannot be run");
    }
  }
  if (!config.boolean("is_causal").value_or(true)) {
    throw Error(config.source() + ": is_causal: false cannot be run");
  }
  if (!config.keys("per_layer_config.").empty()) {
    fail(config, "per_layer_config", "settings of single layers cannot be run");
  }
}

std::int64_t require_positive(const ModelConfig& config, std::string_view key, std::int64_t value) {
  if (value > 0) return value;
  fail(config, key, "must be positive, not " + std::to_string(value));
}

// A cap on scores or logits; 0 where there is none, which a null says too.
double cap(const ModelConfig& config, std::string_view key) {
  const auto value = key.empty() ? std::nullopt : config.number(key);
  if (!value) return 0;
  if (!(*value > 0)) fail(config, key, "must be positive, or null for none");
  return *value;
}

double attention_scale(const ModelConfig& config, const Family& family, std::int64_t head_dim,
                       std::size_t layer) {
  if (!family.attention.scale_key.empty()) {
    if (const auto scale = config.number(family.attention.scale_key)) return *scale;
  }
  auto dimensions = static_cast<double>(head_dim);
  if (!family.attention.query_scalar_key.empty()) {
    dimensions = config.require_number(family.attention.query_scalar_key);
    if (!(dimensions > 0)) fail(config, family.attention.query_scalar_key, "must be positive");
  }
  if (!family.attention.scales_scores) return 1 / std::sqrt(dimensions);
  double scale =
      config.boolean("scale_attn_weights").value_or(true) ? 1 / std::sqrt(dimensions) : 1;
  if (config.boolean("scale_attn_by_inverse_layer_idx").value_or(false)) {
    scale /= static_cast<double>(layer + 1);
  }
  return scale;
}

// Throws Error where `layer_types` asks for attention of another kind than the layers have.
void check_layer_types(const ModelConfig& config, const Family& family,
                       const std::vector<LayerFacts>& layers) {
  const auto* types = config.find_list("layer_types");
  for (std::size_t i = 0; types != nullptr && i < std::min(types->size(), layers.size()); ++i) {
    const auto* name = std::get_if<std::string>(&(*types)[i]);
    const bool slides = name != nullptr && *name == "sliding_attention";
    const std::string layer = "layer " + std::to_string(i);
    if (slides && layers[i].window == 0) {
      fail(config, "layer_types",
           layer +
               " is 'sliding_attention', but sliding_window is missing, or switched off by "
               "use_sliding_window");
    }
    if (family.attention.layer_types && !slides && (name == nullptr || *name != "full_attention")) {
      fail(config, "layer_types",
           layer + " is neither 'full_attention' nor 'sliding_attention', so it cannot be run");
    }
  }
}

// A family whose layers alternate by default cannot do without a window.
void require_window(const ModelConfig& config, const Family& family) {
  if (!family.attention.needs_window || config.integer("sliding_window").value_or(0) > 0) return;
  if (config.find_list("layer_types") != nullptr) return;  // check_layer_types() knows better
  fail(config, "sliding_window", "missing, and a " + config.model_type() + " model needs one");
}

// Whether a layer rotates queries and keys.
bool rotates(const ModelConfig& config, const Family& family, std::uint64_t window,
             std::size_t layer) {
  switch (family.rotary.rotates) {
    case Rotates::kAll:
      return true;
    case Rotates::kWindowed:
      return window > 0;
    case Rotates::kWindowedIfSet:
      return window > 0 || !config.has("sliding_window");
    case Rotates::kListed:
      break;
  }
  const auto* listed = config.find_list("no_rope_layers");
  if (listed == nullptr || listed->empty()) {
    const auto every = config.require_integer("no_rope_layer_interval");
    require_positive(config, "no_rope_layer_interval", every);
    return (layer + 1) % static_cast<std::size_t>(every) != 0;
  }
  const ModelConfig::Value& value = listed->at(layer);
  const auto* number = std::get_if<std::int64_t>(&value);
  const auto* flag = std::get_if<bool>(&value);
  if (number == nullptr && flag == nullptr) fail(config, "no_rope_layers", "holds no numbers");
  return number != nullptr ? *number != 0 : *flag;
}

// A factor that config.json has for the family; 1 where it does not know one.
double factor(const ModelConfig& config, std::string_view key) {
  return key.empty() ? 1 : config.require_number(key);
}

bool is_parallel(const ModelConfig& config, const Residual& residual) {
  if (residual.parallel_key.empty()) return residual.parallel;
  const bool parallel = config.boolean(residual.parallel_key).value_or(false);
  if (!parallel && !residual.grouped_key.empty() &&
      config.boolean(residual.grouped_key).value_or(false)) {
    fail(config, residual.parallel_key,
         "false cannot be run with " + std::string(residual.grouped_key));
  }
  return parallel;
}

void set_factors(const ModelConfig& config, const ModelTree& tree, Recipe& recipe) {
  const Family& family = *recipe.family;
  recipe.norm_eps = family.norms.epsilon_key.empty()
                        ? family.norms.epsilon
                        : config.require_number(family.norms.epsilon_key);
  recipe.embedding_scale = family.ends.root_scale
                               ? std::sqrt(static_cast<double>(tree.facts.hidden))
                               : factor(config, family.ends.embedding_scale_key);
  recipe.residual_scale = factor(config, family.residual.scale_key);
  const double divisor = factor(config, family.ends.logit_divisor_key);
  if (divisor == 0) fail(config, family.ends.logit_divisor_key, "must not be 0");
  recipe.logit_scale = factor(config, family.ends.logit_scale_key) / divisor;
  recipe.attention_softcap = cap(config, family.attention.cap_key);
  recipe.logit_softcap = cap(config, family.ends.logit_cap_key);
  recipe.clip = cap(config, family.attention.clip_key);
  recipe.parallel = is_parallel(config, family.residual);
}

// One rotary embedding, or one for layers that see all positions and one for those with a window.
void set_rotaries(const ModelConfig& config, Recipe& recipe) {
  const Family& family = *recipe.family;
  if (!family.ends.positions.empty()) return;
  if (!family.rotary.by_layer_type) {
    recipe.rotaries.push_back(make_rotary(config, family, recipe.head_dim, ""));
    const Rotary& rotary = recipe.rotaries.back();
    if (family.rotary.restarts && !rotary.long_frequency.empty()) {
      recipe.restarts_after = rotary.trained;
    }
    return;
  }
  for (const char* type : {"full_attention", "sliding_attention"}) {
    recipe.rotaries.push_back(make_rotary(config, family, recipe.head_dim, type));
  }
}

// The elements of a position in the KV cache of a layer that has one.
std::int64_t cached_elements(const ModelConfig& config, const ModelTree& tree) {
  const auto& layers = tree.facts.layers;
  const auto with_cache =
      std::ranges::find_if(layers, [](const LayerFacts& layer) { return layer.kv_elements > 0; });
  if (with_cache != layers.end()) return static_cast<std::int64_t>(with_cache->kv_elements);
  throw Error(config.source() + ": no layer has a KV cache, so the model cannot be run");
}

// Heads that divide the width of the stream. The template knows how many keys there are.
void set_divided_heads(const ModelConfig& config, const ModelTree& tree, Recipe& recipe) {
  recipe.heads = require_positive(config, "num_attention_heads",
                                  config.require_integer("num_attention_heads"));
  recipe.head_dim = static_cast<std::int64_t>(tree.facts.hidden) / recipe.heads;
  recipe.kv_heads =
      recipe.head_dim == 0 ? 0 : cached_elements(config, tree) / (2 * recipe.head_dim);
  if (recipe.kv_heads == 0 || recipe.heads % recipe.kv_heads != 0) {
    fail(config, "num_attention_heads",
         std::to_string(recipe.heads) + " cannot share " + std::to_string(recipe.kv_heads) +
             " keys");
  }
}

void set_heads(const ModelConfig& config, const ModelTree& tree, Recipe& recipe) {
  const Family& family = *recipe.family;
  if (family.attention.latent) {
    recipe.latent = read_latent_sizes(config, tree);
    recipe.heads = recipe.kv_heads = recipe.latent->heads;
    recipe.head_dim = recipe.latent->rotary;
    return;
  }
  if (family.attention.heads_divide_stream) {
    set_divided_heads(config, tree, recipe);
    return;
  }
  const std::string_view kv_key =
      family.attention.kv_heads_key.empty() ? "num_attention_heads" : family.attention.kv_heads_key;
  recipe.heads = require_positive(config, "num_attention_heads",
                                  config.require_integer("num_attention_heads"));
  recipe.kv_heads = require_positive(config, kv_key, config.integer(kv_key).value_or(recipe.heads));
  if (recipe.heads % recipe.kv_heads != 0) {
    fail(config, kv_key,
         std::to_string(recipe.kv_heads) + " does not divide " + std::to_string(recipe.heads) +
             " heads");
  }
  // The architecture template knows how each family finds head_dim, and the size of the KV cache
  // shows it.
  recipe.head_dim =
      require_positive(config, "head_dim", cached_elements(config, tree) / (2 * recipe.kv_heads));
}

// A count that must be at least 1; 1 where the family does not know the key.
std::size_t count_of(const ModelConfig& config, std::string_view key) {
  if (key.empty()) return 1;
  return static_cast<std::size_t>(require_positive(config, key, config.require_integer(key)));
}

// Whether groups of experts count.
bool by_groups(const ModelConfig& config, const MixtureModules& mixture) {
  if (mixture.method_key.empty()) return true;
  const std::string method = require_text(config, mixture.method_key);
  if (method == "greedy") return false;
  if (method == "group_limited_greedy") return true;
  fail(config, mixture.method_key,
       quote(method) + " cannot be run (greedy and group_limited_greedy can)");
}

Routing make_routing(const ModelConfig& config, const MixtureModules& mixture,
                     const LayerFacts& layer) {
  Routing routing;
  routing.score = mixture.score;
  routing.added = mixture.score == RouterScore::kSigmoid ? mixture.added_to_sum : 0;
  routing.experts = layer.experts;
  routing.picked = layer.experts_per_token;
  const std::string experts = std::to_string(routing.experts) + " experts";
  if (routing.picked == 0 || routing.picked > routing.experts) {
    fail(config, "num_experts_per_tok", std::to_string(routing.picked) + " of " + experts);
  }
  if (by_groups(config, mixture)) {
    routing.groups = count_of(config, mixture.groups_key);
    routing.picked_groups = count_of(config, mixture.picked_groups_key);
    routing.best_of_group = mixture.best_of_group;
  }
  if (routing.experts % routing.groups != 0) {
    fail(config, mixture.groups_key,
         std::to_string(routing.groups) + " groups do not divide " + experts);
  }
  if (routing.picked_groups > routing.groups) {
    fail(config, mixture.picked_groups_key,
         std::to_string(routing.picked_groups) + " of " + std::to_string(routing.groups) +
             " groups");
  }
  if (routing.picked > routing.picked_groups * (routing.experts / routing.groups)) {
    fail(config, "num_experts_per_tok",
         std::to_string(routing.picked) + " are more than the picked groups have");
  }
  routing.normalized = mixture.normalize_key.empty()
                           ? mixture.normalized
                           : config.boolean(mixture.normalize_key).value_or(false);
  if (!mixture.jitter_key.empty()) {
    routing.jitter = config.require_number(mixture.jitter_key);
    if (routing.picked != 2) {
      fail(config, "num_experts_per_tok",
           std::to_string(routing.picked) + " cannot be run: its router picks 2");
    }
  }
  if (!mixture.scale_key.empty()) routing.scale = config.require_number(mixture.scale_key);
  if (!mixture.least_sum_key.empty()) {
    routing.least_sum = config.require_number(mixture.least_sum_key);
  }
  return routing;
}

// The recipe of the layer that comes after those that `recipe` has.
ClampedExperts clamped_experts(const ModelConfig& config) {
  const ClampedExperts clamped{config.require_number("swiglu_alpha"),
                               config.require_number("swiglu_limit")};
  if (clamped.alpha == 0) fail(config, "swiglu_alpha", "0 cannot be run");
  // torch's clamp() gives the upper limit where it is below the lower one.
  if (!(clamped.limit >= 0)) fail(config, "swiglu_limit", "must not be negative to be run");
  return clamped;
}

LayerRecipe make_layer(const ModelConfig& config, const ModelTree& tree, const LayerFacts& facts,
                       Recipe& recipe) {
  const Family& family = *recipe.family;
  const std::size_t number = recipe.layers.size();
  LayerRecipe layer;
  layer.name = tree.modules[facts.module].name;
  layer.window = facts.window;
  layer.attention_scale = attention_scale(config, family, recipe.head_dim, number);
  if (!recipe.rotaries.empty() && rotates(config, family, facts.window, number)) {
    layer.rotary = family.rotary.by_layer_type && facts.window > 0 ? 1 : 0;
  }
  const auto has = [&](std::string_view module) {
    return !module.empty() && tree.find_module(layer.module(module)) != nullptr;
  };
  layer.head_norms = has(family.attention.query_norm);
  const Norms& norms = family.norms;
  const bool paired = has(norms.paired_attention);
  if (paired && !config.boolean(family.residual.grouped_key).value_or(false)) {
    fail(config, family.residual.grouped_key,
         "must be true where each block has a norm of its own");
  }
  layer.attention_norm = paired ? norms.paired_attention : norms.attention;
  layer.feed_forward_norm = paired ? norms.paired_feed_forward : norms.feed_forward;
  if (family.attention.latent) {
    layer.mixing = Mixing::kLatent;
  } else if (has(kLinearBlock)) {
    layer.mixing = Mixing::kLinear;
    recipe.linear = read_linear_sizes(config);
  } else if (has(kConvolutionBlock)) {
    layer.mixing = Mixing::kConvolution;
    recipe.convolution_kernel = static_cast<std::size_t>(
        require_positive(config, "conv_L_cache", config.require_integer("conv_L_cache")));
  }
  layer.experts = facts.experts > 0;
  if (!layer.experts) return layer;
  if (family.mixture.router.empty()) fail(config, "num_experts", "experts cannot be run");
  const Routing routing = make_routing(config, family.mixture, facts);
  if (recipe.routing.experts > 0 &&
      (recipe.routing.experts != routing.experts || recipe.routing.picked != routing.picked)) {
    fail(config, "num_experts", "layers with different numbers of experts cannot be run");
  }
  recipe.routing = routing;
  if (family.mixture.clamped) recipe.clamped = clamped_experts(config);
  layer.shared = has(family.mixture.shared.block);
  return layer;
}

}  // namespace

std::string attention_home(const Family& family, const LayerRecipe& layer) {
  const AttentionModules& names = family.attention;
  return layer.module(names.fused.empty() ? names.key : names.fused);
}

std::string feed_forward_home(const Family& family, const LayerRecipe& layer) {
  if (layer.experts) return layer.module(family.mixture.router);
  return layer.module(family.feed_forward.block, family.feed_forward.up);
}

Recipe make_recipe(const Model& model) {
  if (!model.config) {
    // The last note says what weights without a config are, and what makes a model of them.
    const bool noted = model.checkpoint && !model.checkpoint->notes.empty();
    throw Error(model.path.string() + ": cannot be run without a config.json" +
                (noted ? " (" + model.checkpoint->notes.back() + ")" : ""));
  }
  const ModelConfig& config = *model.config;
  const ModelTree& tree = model.tree;
  Recipe recipe;
  recipe.family = &find_family(config);
  const Family& family = *recipe.family;
  refuse_unsupported(config);
  if (tree.find_module(family.ends.head) == nullptr) {
    throw Error(config.source() +
                ": architectures: " + quote(std::string(tree.modules.front().cls)) +
                " has no head (" + std::string(family.ends.head) +
                ") that gives logits of tokens, so it cannot be run");
  }
  if (tree.facts.layers.empty()) throw Error(config.source() + ": the model has no layers");
  set_heads(config, tree, recipe);
  recipe.activation = find_activation(config, family);
  set_factors(config, tree, recipe);
  set_rotaries(config, recipe);
  check_layer_types(config, family, tree.facts.layers);
  require_window(config, family);
  for (const LayerFacts& facts : tree.facts.layers) {
    recipe.layers.push_back(make_layer(config, tree, facts, recipe));
  }
  recipe.max_positions = tree.facts.max_positions;
  // Frequencies that grow with the length are for lengths beyond the model's.
  for (const Rotary& rotary : recipe.rotaries) {
    if (rotary.stretch <= 1) continue;
    recipe.max_positions =
        static_cast<std::uint64_t>(static_cast<double>(recipe.max_positions) * rotary.stretch);
  }
  return recipe;
}

}  // namespace berth

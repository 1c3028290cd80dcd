// What model families compute, as data: a row for each, in groups. The defaults of the groups are
// Llama's, so that a row says how its family differs. Does not include torch.
//
// Names are those of the module tree; names of modules within a layer are without the layer's own
// name. An empty name stands for a module that the family does not have, and an empty key for a
// setting that it does not know. What config.json decides is no difference between families: it is
// read from the config, or from the tree, which has a bias or a norm where the config says so.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/program/routing.h"

namespace berth {

enum class Norm : std::uint8_t {
  kRms,          // x / rms(x), in the activations' dtype, times w
  kRmsPlusOne,   // x / rms(x) times (1 + w), all in float32
  kLayer,        // mean and variance, with a bias where the model has one
  kLayerPlusOne  // the same with a weight of (1 + w)
};

/// What the norms of queries and keys are made for.
enum class HeadNorm : std::uint8_t {
  kEach,    // each head, all with the same weights
  kOwn,     // each head, with weights of its own: [heads, head size]
  kModule,  // the same, in a list of modules called `norms`
  kWhole    // all heads of a position at once
};

/// Which layers rotate queries and keys.
enum class Rotates : std::uint8_t {
  kAll,
  kWindowed,       // those with a window
  kWindowedIfSet,  // the same, or all where sliding_window is null
  kListed          // those for which no_rope_layers has 1, by default all but every so many
};

enum class FeedForward : std::uint8_t {
  kPlain,      // down(act(up(x)))
  kGated,      // down(act(gate(x)) * up(x))
  kFusedGated  // the same, gate and up in one matrix, gate first
};

/// What is around the layers.
struct Ends {
  std::string_view embedding = "model.embed_tokens";
  std::string_view positions;  // the learned position embedding; empty: rotary
  std::string_view final_norm = "model.norm";
  std::string_view head = "lm_head";
  bool root_scale = false;  // embeddings are scaled by the root of the stream's width
  std::string_view embedding_scale_key;
  std::string_view logit_scale_key;    // logits are multiplied by it
  std::string_view logit_divisor_key;  // logits are divided by it
  std::string_view logit_cap_key;
};

struct Norms {
  Norm kind = Norm::kRms;
  std::string_view epsilon_key = "rms_norm_eps";
  double epsilon = 0;  // where there is no key for it
  // Of a layer: before a block, and after it where the layer has that, before the residual is
  // added.
  std::string_view attention = "input_layernorm";
  std::string_view attention_out;
  std::string_view feed_forward = "post_attention_layernorm";
  std::string_view feed_forward_out;
  // Where a layer has these, they stand before its blocks instead.
  std::string_view paired_attention, paired_feed_forward;
};

/// How the blocks of a layer and the residual stream come together.
struct Residual {
  bool parallel = false;          // both blocks see the same stream; a norm that is missing in the
                                  // layer's second half is the first one's
  std::string_view parallel_key;  // or the config says so
  std::string_view grouped_key;   // says that layers are of a kind whose blocks must be parallel
  std::string_view scale_key;     // of what is added
};

struct AttentionModules {
  std::string_view kv_heads_key = "num_key_value_heads";  // empty: as many as query heads
  std::string_view query = "self_attn.q_proj";            // either three matrices
  std::string_view key = "self_attn.k_proj";
  std::string_view value = "self_attn.v_proj";
  std::string_view fused;     // or one, with query, key and value in this order
  bool fused_by_key = false;  // or with the queries of a key, the key and its value, key by key
  // How many keys there are shows in the size of the KV cache: heads divide the stream's width.
  bool heads_divide_stream = false;
  std::string_view query_norm, key_norm;
  HeadNorm head_norm = HeadNorm::kEach;
  bool norm_after_rotation = false;
  std::string_view clip_key;  // queries, keys and values stay within plus and minus this
  std::string_view out = "self_attn.o_proj";
  bool layer_types = false;    // `layer_types` says which layers have a window
  bool needs_window = false;   // transformers cannot run it without sliding_window
  bool scales_scores = false;  // knows scale_attn_weights and scale_attn_by_inverse_layer_idx
  // Of scores; empty, or null in config.json: one over the root of the next, or of head size.
  std::string_view scale_key;
  std::string_view query_scalar_key;
  std::string_view cap_key;  // of scores
  std::string_view sinks;    // a score for each head that has no value
  bool latent = false;       // latent attention, by the modules that mixing.h knows
  bool gated = false;        // the query's matrix makes a gate for each head, too, behind its query
};

struct RotaryKind {
  bool partial = false;             // partial_rotary_factor counts; else whole heads rotate
  bool neighbours = false;          // dimensions 2i and 2i + 1 make a pair; else i and i + half
  std::string_view neighbours_key;  // says so; empty: config.json has no say
  bool by_layer_type = false;       // layers with a window have settings of their own
  Rotates rotates = Rotates::kAll;
  bool alpha = false;  // of type dynamic with an `alpha`, frequencies are stretched once, by it
  bool queries_grow = false;  // with their positions, by llama_4_scaling_beta
  // longrope: `short_mscale` and `long_mscale` scale cosines and sines by the length of a pass,
  // whose frequencies are always those of short ones.
  bool scaled_by_length = false;
  bool restarts = false;  // longrope: a sequence that becomes long is computed anew
};

/// The feed-forward block of a layer without experts.
struct FeedForwardModules {
  FeedForward kind = FeedForward::kGated;
  std::string_view activation_key = "hidden_act";  // empty: SiLU
  bool gelu_is_tanh = false;                       // "gelu" means its approximation
  std::string_view block = "mlp";
  std::string_view gate = "gate_proj";  // in the block, as the next two
  std::string_view up = "up_proj";      // kFusedGated: holds both
  std::string_view down = "down_proj";
  std::string_view activation = "";  // the module of an activation with weights; empty: it has none
};

/// How the weights of experts are stored.
enum class ExpertLayout : std::uint8_t {
  kApart,           // each expert is a module
  kFused,           // `up` is a tensor of all experts' gates and ups [experts, out, in], and so on
  kFusedTransposed  // the same, [experts, in, out]
};

/// The block of a layer with experts, of which a router picks some for each position.
struct MixtureModules {
  std::string_view router;  // empty: the family has no experts
  std::string_view experts = "mlp.experts";
  std::string_view gate = "gate_proj";  // of one expert, as the next two
  std::string_view up = "up_proj";
  std::string_view down = "down_proj";
  ExpertLayout layout = ExpertLayout::kApart;
  bool clamped = false;  // gates and ups are pairs, clamped: swiglu_alpha and swiglu_limit
  // Beside the experts, for all positions; no block: none. Its gate is one number a position, whose
  // sigmoid it is multiplied by.
  FeedForwardModules shared{.block = ""};
  std::string_view shared_gate;

  RouterScore score = RouterScore::kSoftmax;
  std::string_view correction;     // a tensor that is added to scores while experts are compared
  double added_to_sum = 1e-20;     // of shares, before they are divided by it: kSigmoid
  std::string_view normalize_key;  // says whether shares add up to 1
  bool normalized = true;          // whether they do, where there is no such key
  std::string_view groups_key, picked_groups_key;
  std::string_view scale_key;
  std::string_view jitter_key;     // of kSparseMixer
  std::string_view least_sum_key;  // shares are divided by no less than this
  std::size_t best_of_group = 2;   // a group is as good as the sum of so many of its experts
  // A key that says "greedy" where groups do not count, or "group_limited_greedy"; empty: they do.
  std::string_view method_key;
};

/// One row of the table.
struct Family {
  std::string_view model_type = "llama";
  // Of the model in `text_config`, where there are several kinds of it; the first row is the
  // default.
  std::string_view text_type = "";
  Ends ends;
  Norms norms;
  Residual residual;
  AttentionModules attention;
  RotaryKind rotary;
  FeedForwardModules feed_forward;
  MixtureModules mixture;
  bool transposed_weights = false;  // as in GPT-2's Conv1D: [in, out] instead of [out, in]
};

/// The table.
std::span<const Family> families();

}  // namespace berth

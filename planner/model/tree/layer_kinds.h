// The words, letters, lists and intervals by which configs say what their layers are.
#pragma once

#include <cstdint>
#include <string_view>

namespace berth {

enum class LayerKind : std::uint8_t {
  kUnsaid,       // no key speaks of it
  kFull,         // attends to all positions
  kSliding,      // to a window of the last positions
  kChunked,      // to the positions of its chunk
  kRecurrent,    // linear attention, Mamba, a convolution: a state of constant size
  kHybrid,       // attention and such a state side by side
  kCross,        // attends to the positions of an encoder or a picture
  kNoAttention,  // none at all: a feed-forward block or a mixture alone
};

struct KindWord {
  std::string_view word;
  LayerKind kind;
  bool layer_type = true;  // transformers allows it in `layer_types`
};

// The kinds of layers that transformers 5.24 knows (configuration_utils.py), with their older
// names, and those that `layers_block_type` and its like have beside them. Attention to positions
// that are chosen token by token keeps them all.
inline constexpr KindWord kKindWords[] = {
    {"full_attention", LayerKind::kFull},
    {"attention", LayerKind::kFull},
    {"full", LayerKind::kFull, false},
    {"global", LayerKind::kFull, false},
    {"global_attention", LayerKind::kFull, false},
    {"indexed_attention", LayerKind::kFull},
    {"compressed_sparse_attention", LayerKind::kFull},
    {"heavily_compressed_attention", LayerKind::kFull},
    {"minimax_m3_sparse", LayerKind::kFull},
    {"deepseek_sparse_attention", LayerKind::kFull},
    {"qwen_sparse_attention", LayerKind::kFull},
    {"sliding_attention", LayerKind::kSliding},
    {"window_attention", LayerKind::kSliding},
    {"sliding_window", LayerKind::kSliding, false},
    {"reference_sliding_attention", LayerKind::kSliding},
    {"local", LayerKind::kSliding, false},
    {"local_attention", LayerKind::kSliding, false},
    {"sliding", LayerKind::kSliding, false},
    {"chunked_attention", LayerKind::kChunked},
    {"linear_attention", LayerKind::kRecurrent},
    {"mamba", LayerKind::kRecurrent},
    {"mamba2", LayerKind::kRecurrent, false},
    {"recurrent", LayerKind::kRecurrent, false},
    {"ssm", LayerKind::kRecurrent, false},
    {"conv", LayerKind::kRecurrent},
    {"hybrid", LayerKind::kHybrid},
    {"hybrid_sliding", LayerKind::kHybrid},
    {"cross_attention", LayerKind::kCross, false},
    {"moe", LayerKind::kNoAttention},
    {"mlp", LayerKind::kNoAttention, false},
};

// Letters of patterns: Nemotron-H's `hybrid_override_pattern`, EXAONE's `sliding_window_pattern`.
struct KindLetter {
  char letter;
  LayerKind kind;
};
inline constexpr KindLetter kHybridLetters[] = {{'M', LayerKind::kRecurrent},
                                                {'*', LayerKind::kFull},
                                                {'-', LayerKind::kNoAttention},
                                                {'E', LayerKind::kNoAttention}};
inline constexpr KindLetter kWindowLetters[] = {{'L', LayerKind::kSliding},
                                                {'G', LayerKind::kFull}};

// Lists with a word for each layer. Those that repeat may be shorter than the model.
struct WordList {
  std::string_view key;
  bool repeats = false;
};
inline constexpr WordList kWordLists[] = {{"layer_types"},       {"layers_block_type"},
                                          {"attention_layers"},  {"attn_layer_types"},
                                          {"block_types", true}, {"_block_types", true}};

// Lists with a number for each layer: what 0 stands for, and what any other number does.
struct NumberList {
  std::string_view key;
  LayerKind zero;
  LayerKind other;
};
inline constexpr NumberList kNumberLists[] = {
    {"attn_type_list", LayerKind::kRecurrent, LayerKind::kFull},      // MiniMax
    {"hybrid_layer_pattern", LayerKind::kFull, LayerKind::kSliding},  // MiMo-V2
};

// Lists of the numbers of some layers, and what the others are. `first` is the number of the first.
struct IndexList {
  std::string_view key;
  LayerKind listed;
  LayerKind others;
  std::int64_t first = 0;
};
inline constexpr IndexList kIndexLists[] = {
    {"attn_layer_indices", LayerKind::kFull, LayerKind::kRecurrent},                      // Bamba
    {"full_attn_idxs", LayerKind::kFull, LayerKind::kRecurrent},                          // LFM2
    {"linear_attn_config.full_attn_layers", LayerKind::kFull, LayerKind::kRecurrent, 1},  // Kimi
    {"hybrid_layer_ids", LayerKind::kHybrid, LayerKind::kRecurrent},                      // Zamba
    {"global_attn_idx", LayerKind::kFull, LayerKind::kSliding},                           // Hymba
    {"cross_attention_layers", LayerKind::kCross, LayerKind::kFull},  // Llama 3.2 Vision
};

// Intervals of the layers that attend to everything: those whose number leaves this rest.
struct Interval {
  std::string_view key;
  std::string_view offset;  // the key of the rest, where there is one
  std::int64_t rest;        // -1: the last of each stretch
  LayerKind others;
  bool read_otherwise = false;  // another family reads the key with another rest
};
inline constexpr Interval kIntervals[] = {
    {"full_attention_interval", "", -1, LayerKind::kRecurrent},            // Qwen3-Next
    {"attn_layer_period", "attn_layer_offset", 0, LayerKind::kRecurrent},  // Jamba
    {"layer_group_size", "", -1, LayerKind::kRecurrent},                   // Ling 2.5
    {"sliding_window_pattern", "", -1, LayerKind::kSliding},               // Gemma 3, Command A
    {"_sliding_window_pattern", "", -1, LayerKind::kSliding},
    {"layer_switch", "", -1, LayerKind::kSliding},
    // ModernBERT; Trinity (afmoe) means the last of each stretch.
    {"global_attn_every_n_layers", "", 0, LayerKind::kSliding, true},
};

// Further intervals, which must be at least 1 where they are given, too.
inline constexpr std::string_view kOtherIntervals[] = {
    "no_rope_layer_interval", "expert_layer_period", "interleave_moe_layer_step",
    "moe_layer_interval",     "moe_layer_freq",      "moe_every_n_layers"};

// Lists, where they are lists, of one entry for each layer.
inline constexpr std::string_view kOnePerLayer[] = {
    "layer_types",          "mlp_layer_types",
    "layers_block_type",    "attention_layers",
    "attn_layer_types",     "attn_type_list",
    "hybrid_layer_pattern", "no_rope_layers",
    "moe_layer_freq",       "num_key_value_heads",
    "num_attention_heads",  "num_kv_heads",
    "num_query_heads",      "sliding_window",
    "window_sizes",         "num_key_value_heads_per_layer"};

// Lists of numbers of layers that say nothing of caches.
inline constexpr std::string_view kOtherIndexLists[] = {"moe_layers", "mlp_only_layers"};

// How wide the window or the chunk is.
inline constexpr std::string_view kWindowKeys[] = {
    "sliding_window",    "sliding_window_size", "attention_window_size", "window_size",
    "local_window_size", "local_attention",     "swa_window_size"};
inline constexpr std::string_view kChunkKeys[] = {"attention_chunk_size", "chunk_attention_size"};

}  // namespace berth

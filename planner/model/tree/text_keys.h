// The keys of a config.json that describe its language model, wherever they are nested and by
// whichever of their usual names. A template names the keys of its family itself; this is for who
// reads a config of any family.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "planner/model/tree/config.h"

namespace berth {

// A list of other names for one key, the most usual first.
using KeyNames = std::span<const std::string_view>;

namespace keys {
inline constexpr std::string_view kLayers[] = {"num_hidden_layers", "n_layer",    "num_layers",
                                               "n_layers",          "num_blocks", "decoder_layers"};
inline constexpr std::string_view kDecoderLayers[] = {"decoder_layers", "num_decoder_layers",
                                                      "decoder_num_hidden_layers"};
inline constexpr std::string_view kHidden[] = {"hidden_size", "n_embd",    "d_model",
                                               "dim",         "model_dim", "n_embed"};
inline constexpr std::string_view kIntermediate[] = {
    "intermediate_size", "ffn_dim",   "decoder_ffn_dim", "n_inner", "d_ff",
    "ffn_hidden_size",   "hidden_dim"};
inline constexpr std::string_view kVocabulary[] = {"vocab_size", "padded_vocab_size",
                                                   "text_vocab_size"};
inline constexpr std::string_view kHeads[] = {"num_attention_heads", "n_head",
                                              "decoder_attention_heads", "num_heads", "n_heads"};
inline constexpr std::string_view kKvHeads[] = {"num_key_value_heads",   "n_head_kv",
                                                "num_kv_heads",          "n_kv_heads",
                                                "multi_query_group_num", "num_query_groups"};
inline constexpr std::string_view kHeadDim[] = {"head_dim", "kv_channels", "attention_head_dim",
                                                "d_kv", "d_head"};
inline constexpr std::string_view kPositions[] = {"max_position_embeddings",
                                                  "n_positions",
                                                  "n_ctx",
                                                  "max_target_positions",
                                                  "max_seq_len",
                                                  "max_sequence_length",
                                                  "seq_length",
                                                  "max_seq_length"};
inline constexpr std::string_view kMtpLayers[] = {"num_nextn_predict_layers", "mtp_num_layers",
                                                  "mtp_num_hidden_layers",    "num_mtp_layers",
                                                  "num_mtp_modules",          "n_predict_layers"};
}  // namespace keys

// A view of a config, which must outlive it. Keys of the nested language model (`text_config`,
// `llm_config`, `thinker_config.text_config`, ...) win over those of the whole, as transformers
// hands the nested config to that model. Of a list that holds a value for each layer, the largest
// stands for the model.
class TextKeys {
 public:
  explicit TextKeys(const ModelConfig& config);

  const ModelConfig& config() const { return *config_; }
  // The nested config that describes the language model, with its dot: "llm_config."; or "".
  const std::string& prefix() const { return prefix_; }

  // The whole name of a key as the file has it ("text_config.head_dim"); "" where it is absent.
  std::string find(std::string_view key) const;
  std::string find(KeyNames names) const;

  // A whole number under one of the names. Throws Error, naming the key, for text, a fraction and
  // what is negative. Of other values, such as true, it counts as absent.
  std::optional<std::uint64_t> whole(KeyNames names) const;
  std::optional<std::uint64_t> whole(std::string_view key) const;
  // The same for a count that a model cannot have none of. Throws Error if it is 0.
  std::optional<std::uint64_t> count(KeyNames names) const;
  // The value for one layer: of a list, its entry if there is one for each of `layers`.
  std::optional<std::uint64_t> of_layer(KeyNames names, std::size_t layer,
                                        std::size_t layers) const;
  std::optional<bool> flag(std::string_view key) const;
  std::string text(std::string_view key) const;  // "" where it is absent or no text
  const std::vector<ModelConfig::Value>* list(std::string_view key) const;
  bool null(std::string_view key) const;

  // Throws Error "config.json: key: what".
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  std::optional<std::uint64_t> whole_at(const std::string& key) const;

  const ModelConfig* config_;
  std::string prefix_;
};

// The number that a value holds, if it is a whole one.
std::optional<std::int64_t> whole_value(const ModelConfig::Value& value);

}  // namespace berth

#include "planner/model/open/causal.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <span>
#include <string_view>

#include "planner/model/open/block_lists.h"

namespace berth {
namespace {

using Words = std::span<const std::string_view>;

// Parts of class names (transformers' Auto classes and what they stand for).
constexpr std::string_view kWriters[] = {"causallm", "lmhead",    "conditionalgeneration",
                                         "seq2seq",  "chatmodel", "vision2seq"};
constexpr std::string_view kReaders[] = {"maskedlm",
                                         "questionanswering",
                                         "imageclassification",
                                         "audioclassification",
                                         "masked",
                                         "fillmask",
                                         "bert",
                                         "visionmodel",
                                         "sentencetransformer",
                                         "textencoder",
                                         "encodermodel"};
// Names that BERT and its kin have.
constexpr std::string_view kReaderNames[] = {"token_type_embeddings", "cls.predictions",
                                             "pooler.dense",          "vocab_transform",
                                             "lm_head.dense",         "mask_token"};

bool has_any(const std::string& text, Words words) {
  return std::ranges::any_of(words, [&](auto word) { return text.find(word) != text.npos; });
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string first_class(const ModelConfig& config) {
  const auto* classes = config.find_list("architectures");
  const auto* name = classes == nullptr || classes->empty()
                         ? nullptr
                         : std::get_if<std::string>(&classes->front());
  return name == nullptr ? "" : lower(*name);
}

std::optional<bool> by_config(const TextKeys& keys) {
  const ModelConfig& config = keys.config();
  if (keys.flag("is_encoder_decoder") == true) return true;
  if (keys.flag("is_decoder") == true) return true;
  if (const auto says = keys.flag("is_causal")) return *says;
  const std::string cls = first_class(config);
  if (has_any(cls, kWriters)) return true;
  if (has_any(cls, kReaders)) return false;
  if (config.has("auto_map.AutoModelForCausalLM")) return true;
  if (config.has("auto_map.AutoModelForMaskedLM")) return false;
  if (keys.whole("type_vocab_size").value_or(0) > 0) return false;
  return std::nullopt;
}

bool names_reader(const ModelTree& tree) {
  return std::ranges::any_of(tree.modules, [](const Module& module) {
    return std::ranges::any_of(
        kReaderNames, [&](auto word) { return module.name.find(word) != module.name.npos; });
  });
}

// A table of embeddings of tokens, by its usual names.
bool reads_tokens(const ModelTree& tree) {
  static constexpr std::string_view kTables[] = {
      "embed_tokens",    "tok_embeddings", "wte",
      "word_embeddings", "embed_in",       "token_embedding",
      "embeddings",      "embedding",      "tok_embedding",
      "shared",          "word_embedding", "emb",
      "tokens_embed"};
  return std::ranges::any_of(tree.modules, [&](const Module& module) {
    const std::string_view last = std::string_view(module.name).substr(module.name.rfind('.') + 1);
    return !module.prompt_only && !module.tensors.empty() &&
           std::ranges::find(kTables, last) != std::end(kTables) &&
           std::ranges::any_of(module.tensors,
                               [&](TensorId id) { return tree.tensors[id].shape.size() == 2; });
  });
}

}  // namespace

Writes writes_text(const ModelTree& tree, ModuleId decoder, const TextKeys& keys) {
  if (const auto says = by_config(keys)) return *says ? Writes::kYes : Writes::kNo;
  // GPT-NeoX, too, is saved with is_decoder: false, so that alone tells nothing.
  const bool no_decoder = keys.flag("is_decoder") == false;
  if (names_reader(tree) || names_encoder(tree.modules[decoder].name)) {
    return no_decoder ? Writes::kNo : Writes::kNoGuessed;
  }
  const bool vocabulary = keys.whole(keys::kVocabulary).value_or(0) > 0;
  if (!vocabulary && !reads_tokens(tree)) return Writes::kNotText;
  return no_decoder ? Writes::kYesGuessed : Writes::kYes;
}

}  // namespace berth

// Writes the sections of a tokenizer.json for a SentencePiece vocabulary, with the steps of Llama's
// own file.

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>

#include "planner/base/json_writer.h"
#include "planner/base/position.h"
#include "planner/model/gguf/piece_merges.h"
#include "planner/model/gguf/vocabulary.h"

namespace berth {
namespace {

constexpr std::string_view kMark = "\u2581";  // stands for a space
constexpr std::string_view kPrepend = R"({"type": "Prepend", "prepend": "▁"}, )";
constexpr std::string_view kToMark =
    R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})";
constexpr std::string_view kDecoderSteps =
    R"({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, )"
    R"({"type": "ByteFallback"}, {"type": "Fuse"})";
constexpr std::string_view kStrip = R"(, {"type": "Strip", "content": " ", "start": 1, "stop": 0})";

// Refuses options that other kinds of models set under keys of the same names.
void refuse_options(const GgufHeader& header) {
  if (header.has("tokenizer.ggml.precompiled_charsmap")) {
    header.fail("tokenizer.ggml.precompiled_charsmap", "is not supported");
  }
  if (header.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false)) {
    header.fail("tokenizer.ggml.remove_extra_whitespaces", "is not supported");
  }
}

// Gemma stores runs of spaces as spaces, but they are pieces like others. This gives them their
// marks back.
void respell_spaces(GgufVocabulary& vocabulary, std::deque<std::string>& respelled) {
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string_view& token = vocabulary.tokens[id];
    if (token.size() < 2 || token.find_first_not_of(' ') != token.npos) continue;
    std::string& marks = respelled.emplace_back();
    for (std::size_t i = 0; i < token.size(); ++i) marks += kMark;
    token = marks;
    vocabulary.types[id] = kNormalToken;
  }
}

std::optional<std::size_t> unknown_of(const GgufHeader& header, const GgufVocabulary& vocabulary) {
  const auto by_type = std::ranges::find(vocabulary.types, kUnknownToken);
  if (by_type != vocabulary.types.end()) {
    return static_cast<std::size_t>(by_type - vocabulary.types.begin());
  }
  const auto id = header.unsigned_integer("tokenizer.ggml.unknown_token_id");
  if (id && *id >= vocabulary.tokens.size()) {
    header.fail("tokenizer.ggml.unknown_token_id", "is outside the vocabulary");
  }
  return id;
}

// Gemma's scores do not tell the order of its merges; the order of its tokens does.
std::vector<double> read_scores(const GgufHeader& header, std::size_t tokens, bool by_position) {
  std::vector<double> scores;
  if (by_position) {
    for (std::size_t id = 0; id < tokens; ++id) scores.push_back(-static_cast<double>(id));
    return scores;
  }
  scores = header.numbers("tokenizer.ggml.scores");
  if (scores.size() != tokens) {
    header.fail("tokenizer.ggml.scores", "has " + std::to_string(scores.size()) + " elements for " +
                                             std::to_string(tokens) + " tokens");
  }
  if (std::ranges::any_of(scores, [](double score) { return std::isnan(score); })) {
    header.fail("tokenizer.ggml.scores", "holds NaN");
  }
  return scores;
}

std::string merges_json(const GgufHeader& header, const GgufVocabulary& vocabulary,
                        const std::vector<double>& scores) {
  std::vector<ScoredPiece> pieces;
  for (std::size_t id = 0; id < scores.size(); ++id) {
    const std::int64_t type = vocabulary.types[id];
    pieces.push_back({vocabulary.tokens[id], scores[id],
                      type != kUnknownToken && type != kControlToken && type != kByteToken});
  }
  JsonWriter merges(JsonForm::kOneLine, JsonEscapes::kPlain);
  merges.begin_array();
  with_position([&] { return header.position("tokenizer.ggml.tokens"); },
                [&] {
                  for (const PieceMerge& merge : piece_merges(pieces)) {
                    merges.begin_array().value(merge.left).value(merge.right).end_array();
                  }
                });
  return merges.end_array().take_value();
}

std::string model_json(const GgufHeader& header, const GgufVocabulary& vocabulary,
                       std::optional<std::size_t> unknown, bool gemma) {
  JsonWriter model(JsonForm::kIndented, JsonEscapes::kPlain);
  model.begin_object();
  model.member("type", "BPE");
  model.key("dropout").null();
  if (unknown) {
    model.member("unk_token", vocabulary.tokens[*unknown]);
  } else {
    model.key("unk_token").null();
  }
  model.key("continuing_subword_prefix").null();
  model.key("end_of_word_suffix").null();
  model.member("fuse_unk", true);
  model.member("byte_fallback", true);
  model.member("ignore_merges", false);
  model.key("vocab").json(vocabulary_json(vocabulary));
  model.key("merges").json(
      merges_json(header, vocabulary, read_scores(header, vocabulary.tokens.size(), gemma)));
  return model.end_object().take_value();
}

}  // namespace

TokenizerSections sentencepiece_sections(const GgufHeader& header, GgufVocabulary vocabulary) {
  refuse_options(header);
  const bool gemma = header.text("general.architecture").value_or("").starts_with("gemma");
  std::deque<std::string> respelled;
  if (gemma) respell_spaces(vocabulary, respelled);
  const auto unknown = unknown_of(header, vocabulary);
  // A text may have this token written in it, and it then stands for itself.
  if (unknown) vocabulary.types[*unknown] = kControlToken;
  const bool prefix = header.boolean("tokenizer.ggml.add_space_prefix").value_or(true);

  TokenizerSections sections;
  sections.added_tokens = added_tokens_json(vocabulary);
  sections.normalizer = R"({"type": "Sequence", "normalizers": [)";
  sections.normalizer.append(prefix ? kPrepend : "").append(kToMark).append("]}");
  sections.decoder = R"({"type": "Sequence", "decoders": [)";
  sections.decoder.append(kDecoderSteps).append(prefix ? kStrip : "").append("]}");
  sections.model = model_json(header, vocabulary, unknown, gemma);
  sections.bos = true;
  return sections;
}

}  // namespace berth

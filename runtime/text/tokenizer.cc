#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/json_value.h"
#include "planner/base/quote.h"
#include "planner/base/utf8.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/post_processor.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/steps.h"
#include "runtime/text/token_decoder.h"
#include "runtime/text/token_id.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostBytes = 256u << 20;  // of a tokenizer.json; the largest have 40 MiB

void read_vocabulary(const JsonValue& vocabulary, Bpe& bpe) {
  for (const auto [token, element] : vocabulary.object()) {
    const JsonValue value(element, vocabulary.file(),
                          "model.vocab[" + quote(lossy_utf8(token)) + "]");
    const std::uint32_t id = token_id(value);
    if (!bpe.add_token(token, id)) {
      value.fail("id " + std::to_string(id) + " is taken by " + quote(*bpe.token_of(id)));
    }
  }
}

// A merge is "left right" or ["left", "right"].
void read_merges(const JsonValue& merges, Bpe& bpe) {
  for (const JsonValue& merge : merges.list()) {
    std::string_view left;
    std::string_view right;
    if (merge.is_text()) {
      const auto text = merge.text();
      const auto space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        merge.fail(quote(text) + " is not two tokens with a space between");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      const auto pair = merge.list();
      if (pair.size() != 2) merge.fail("must be two tokens");
      left = pair[0].text();
      right = pair[1].text();
    }
    if (!bpe.add_merge(left, right)) {
      merge.fail(quote(left) + ", " + quote(right) +
                 " and the two joined must all be in model.vocab");
    }
  }
}

Bpe read_bpe(const JsonValue& model) {
  const auto type = model.get("type");  // old files leave it out
  if (type && type->text() != "BPE") {
    type->fail(quote(type->text()) + " is not supported (BPE is)");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = model.get(affix);
    if (value && !value->text().empty()) value->fail("is not supported");
  }
  if (model.get("dropout")) model.get("dropout")->fail("is not supported: it makes ids random");
  Bpe bpe;
  read_vocabulary(model.require("vocab"), bpe);
  read_merges(model.require("merges"), bpe);
  bpe.options.ignore_merges = model.flag("ignore_merges");
  bpe.options.byte_fallback = model.flag("byte_fallback");
  bpe.options.fuse_unknown = model.flag("fuse_unk");
  if (const auto unknown = model.get("unk_token")) {
    bpe.options.unknown = bpe.id_of(unknown->text());
    if (!bpe.options.unknown) unknown->fail("is not in model.vocab");
  }
  return bpe;
}

class HuggingFaceTokenizer final : public Tokenizer {
 public:
  // `steps` has the normalizer, the pre-tokenizer and the decoder; most often it is `file`.
  HuggingFaceTokenizer(const JsonValue& file, const JsonValue& steps)
      : bpe_(read_bpe(file.require("model"))),
        normalizer_(make_normalizer(steps.get("normalizer"))),
        pretokenizer_(make_pretokenizer(steps.get("pre_tokenizer"))),
        decoder_(make_token_decoder(steps.get("decoder"))),
        around_(read_post_processor(file.get("post_processor"))) {
    read_added_tokens(file);
    if (const auto truncation = file.get("truncation")) {
      max_ids_ = truncation->require("max_length").unsigned_integer();
    }
    if (const auto padding = file.get("padding")) {
      if (!padding->require("strategy").is_text() || padding->get("pad_to_multiple_of")) {
        padding->fail("to a fixed length is not supported");
      }
    }
  }

  std::vector<std::int64_t> encode(std::string_view text) const override;
  std::vector<std::int64_t> encode_prompt(std::string_view text) const override;
  std::unique_ptr<GrowingText> grow(bool keep_special) const override;
  // Null for an id that gives no text: of a special token that is not kept, or of none at all, as a
  // model's vocabulary is often padded beyond the tokenizer's.
  const std::string* token_of(std::int64_t id, bool keep_special) const;

  std::uint64_t vocabulary() const override { return bpe_.size() + added_outside_model_; }

 private:
  void read_added_tokens(const JsonValue& file);
  TextPiece normalize(TextPiece piece) const {
    if (normalizer_) normalizer_(piece);
    return piece;
  }
  std::vector<std::int64_t> encode_text(std::string_view text) const;
  void encode_words(const TextPiece& piece,
                    std::unordered_map<std::string, std::vector<std::int64_t>>& known,
                    std::vector<std::int64_t>& ids) const;
  void check_length(const std::vector<std::int64_t>& ids) const;

  Bpe bpe_;
  Normalizer normalizer_;
  PreTokenizer pretokenizer_;
  TokenDecoder decoder_;
  SpecialIds around_;
  std::unordered_map<std::uint32_t, AddedToken> added_;
  AddedTokenFinder as_given_;    // tokens looked for in the text as given
  AddedTokenFinder normalized_;  // tokens looked for in the normalized text
  std::uint64_t added_outside_model_ = 0;
  std::optional<std::uint64_t> max_ids_;
};

void HuggingFaceTokenizer::read_added_tokens(const JsonValue& file) {
  const auto tokens = file.get("added_tokens");
  if (!tokens) return;
  for (const JsonValue& value : tokens->list()) {
    AddedToken token;
    const auto content = value.require("content").text();
    token.id = token_id(value.require("id"));
    token.single_word = value.flag("single_word");
    token.lstrip = value.flag("lstrip");
    token.rstrip = value.flag("rstrip");
    token.special = value.flag("special");
    token.normalized = value.flag("normalized", !token.special);
    if (content.empty()) continue;
    token.content = std::string(content);
    if (token.normalized) token.content = normalize({token.content}).text;
    const auto in_model = bpe_.id_of(content);
    const std::string* other = bpe_.token_of(token.id);
    if (in_model ? *in_model != token.id : other != nullptr) {
      value.fail(quote(content) + " has id " + std::to_string(token.id) + ", against model.vocab");
    }
    if (const auto [entry, fresh] = added_.try_emplace(token.id, token); !fresh) {
      if (entry->second.content == token.content) continue;  // the first entry counts
      value.fail("id " + std::to_string(token.id) + " is given to two added tokens");
    }
    if (!in_model) ++added_outside_model_;
    (token.normalized ? normalized_ : as_given_).add(token);
  }
}

// `known` has the ids of words that came before in this text, because words repeat.
void HuggingFaceTokenizer::encode_words(
    const TextPiece& piece, std::unordered_map<std::string, std::vector<std::int64_t>>& known,
    std::vector<std::int64_t>& ids) const {
  std::vector<TextPiece> words{piece};
  if (pretokenizer_) pretokenizer_(words);
  for (TextPiece& word : words) {
    const auto [entry, fresh] = known.try_emplace(std::move(word.text));
    if (fresh) bpe_.encode(entry->first, entry->second);
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  }
}

std::vector<std::int64_t> HuggingFaceTokenizer::encode_text(std::string_view text) const {
  if (const auto bad = find_ill_formed_utf8(text)) {
    throw Error("the text is not UTF-8: ill-formed at byte " + std::to_string(*bad));
  }
  if (text.size() > std::size_t{1} << 29) throw Error("the text is longer than 512 MiB");
  std::vector<std::int64_t> ids;
  std::unordered_map<std::string, std::vector<std::int64_t>> known;
  std::vector<TextSegment> segments;
  as_given_.split(text, segments);
  std::vector<TextSegment> parts;
  for (const TextSegment& segment : segments) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    parts.clear();
    const TextPiece piece = normalize({segment.text, &segment == &segments.front()});
    normalized_.split(piece.text, parts);
    for (const TextSegment& part : parts) {
      if (part.id) {
        ids.push_back(*part.id);
      } else {
        encode_words({part.text, piece.at_start && &part == &parts.front()}, known, ids);
      }
    }
  }
  return ids;
}

void HuggingFaceTokenizer::check_length(const std::vector<std::int64_t>& ids) const {
  if (max_ids_ && ids.size() > *max_ids_) {
    throw Error("the text has " + std::to_string(ids.size()) +
                " tokens, but tokenizer.json truncates to " + std::to_string(*max_ids_));
  }
}

std::vector<std::int64_t> HuggingFaceTokenizer::encode(std::string_view text) const {
  auto ids = encode_text(text);
  check_length(ids);
  return ids;
}

std::vector<std::int64_t> HuggingFaceTokenizer::encode_prompt(std::string_view text) const {
  auto ids = encode_text(text);
  ids.insert(ids.begin(), around_.before.begin(), around_.before.end());
  ids.insert(ids.end(), around_.after.begin(), around_.after.end());
  check_length(ids);
  return ids;
}

const std::string* HuggingFaceTokenizer::token_of(std::int64_t id, bool keep_special) const {
  if (id < 0 || id > std::numeric_limits<std::uint32_t>::max()) return nullptr;
  if (const auto added = added_.find(static_cast<std::uint32_t>(id)); added != added_.end()) {
    return added->second.special && !keep_special ? nullptr : &added->second.content;
  }
  return bpe_.token_of(static_cast<std::uint32_t>(id));
}

class HuggingFaceText final : public GrowingText {
 public:
  HuggingFaceText(const HuggingFaceTokenizer& tokenizer, const TokenDecoder& decoder,
                  bool keep_special)
      : tokenizer_(tokenizer), decoder_(decoder), keep_special_(keep_special) {}

  std::string push(std::int64_t id) override {
    const std::string* token = tokenizer_.token_of(id, keep_special_);
    return token != nullptr ? decoder_.push(*token) : std::string();
  }
  std::string finish() override { return decoder_.finish(); }

 private:
  const HuggingFaceTokenizer& tokenizer_;
  StepwiseDecoder decoder_;
  bool keep_special_;
};

std::unique_ptr<GrowingText> HuggingFaceTokenizer::grow(bool keep_special) const {
  return std::make_unique<HuggingFaceText>(*this, decoder_, keep_special);
}

// As in transformers 5.24, models/llama/tokenization_llama.py.
constexpr std::string_view kLlamaWithoutPrefix = R"({
  "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never",
                    "add_prefix_space": false, "split": false},
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}]}})";

// Whether a step, or one of a sequence of them, is ByteLevel.
bool names_byte_level(const std::optional<JsonValue>& step, const char* sequence) {
  if (!step) return false;
  if (step->type() == "ByteLevel") return true;
  const auto steps = step->get(sequence);
  if (!steps) return false;
  const auto list = steps->list();
  return std::any_of(list.begin(), list.end(),
                     [](const JsonValue& one) { return one.type() == "ByteLevel"; });
}

bool is_byte_level(const JsonValue& file) {
  return names_byte_level(file.get("pre_tokenizer"), "pretokenizers") ||
         names_byte_level(file.get("decoder"), "decoders");
}

}  // namespace

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids, bool keep_special) const {
  const std::unique_ptr<GrowingText> growing = grow(keep_special);
  std::string text;
  for (const std::int64_t id : ids) text += growing->push(id);
  return text + growing->finish();
}

std::unique_ptr<Tokenizer> Tokenizer::read(const std::filesystem::path& tokenizer_json,
                                           TokenizerSteps steps) {
  return parse(read_text_file(tokenizer_json, kMostBytes), tokenizer_json.string(), steps);
}

std::unique_ptr<Tokenizer> Tokenizer::parse(std::string_view json, const std::string& source,
                                            TokenizerSteps steps) {
  const JsonDocument document(json, source);
  try {
    if (steps == TokenizerSteps::kOfFile || is_byte_level(document.root())) {
      return std::make_unique<HuggingFaceTokenizer>(document.root(), document.root());
    }
    const JsonDocument others(kLlamaWithoutPrefix, "the steps of LlamaTokenizer");
    return std::make_unique<HuggingFaceTokenizer>(document.root(), others.root());
  } catch (const simdjson::simdjson_error& error) {
    throw Error(source + ": " + error.what());
  }
}

}  // namespace berth

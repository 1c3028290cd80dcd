// Writes tokenizer.json from GGUF's vocabulary. llama.cpp keeps only the name of a pre-tokenizer.
// What the name stands for is in its llama-vocab.cpp, and as steps in the tokenizer.json files that
// the vocabularies were made from.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/join.h"
#include "planner/base/json_writer.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/model/gguf/gguf.h"
#include "planner/model/gguf/vocabulary.h"

namespace berth {
namespace {

constexpr std::string_view kGpt2Step =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
constexpr std::string_view kDigitsStep = R"({"type": "Digits", "individual_digits": true})";
constexpr std::string_view kBytesStep =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})";

constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizerKind {
  std::vector<std::string_view> names;  // values of tokenizer.ggml.pre
  std::string_view regex;               // splits a text before bytes are mapped; empty: GPT-2's own
  bool digits = false;                  // each digit is a word of its own
  bool whole_words = false;             // a word that is a token is not split up ("ignore_merges")
  bool nfc = false;
  bool bos = false;  // whether a text begins with the BOS token, if the file does not say
};

const std::vector<PreTokenizerKind>& kinds() {
  static const std::vector<PreTokenizerKind> all = {
      {{"gpt-2"}, ""},
      {{"smollm", "starcoder"}, "", true},
      {{"llama-bpe", "llama3", "llama-v3"}, kLlama3Regex, false, true, false, true},
      {{"qwen2", "deepseek-r1-qwen"}, kQwen2Regex, false, false, true},
      {{"tekken"}, kTekkenRegex, false, true, false, true},
  };
  return all;
}

const PreTokenizerKind& find_kind(const GgufHeader& header) {
  std::string_view pre = header.text("tokenizer.ggml.pre").value_or("default");
  // llama.cpp guesses here. Only GPT-2's own models can mean nothing else.
  if (pre == "default" && header.text("general.architecture") == "gpt2") pre = "gpt-2";
  std::vector<std::string_view> known;
  for (const PreTokenizerKind& kind : kinds()) {
    if (std::ranges::find(kind.names, pre) != kind.names.end()) return kind;
    known.insert(known.end(), kind.names.begin(), kind.names.end());
  }
  header.fail("tokenizer.ggml.pre", quote(pre) + " is not supported (" + join(known, ", ") +
                                        " are; --prompt-ids needs no tokenizer)");
}

std::string split_step(std::string_view regex) {
  std::string step = R"({"type": "Split", "pattern": {"Regex": )";
  append_json_text(step, regex, JsonEscapes::kPlain);
  return step + R"(}, "behavior": "Isolated", "invert": false})";
}

std::string pre_tokenizer(const PreTokenizerKind& kind) {
  std::string steps;
  if (kind.digits) steps += std::string(kDigitsStep) + ", ";
  if (!kind.regex.empty()) steps += split_step(kind.regex) + ", ";
  steps += kind.regex.empty() ? kGpt2Step : kBytesStep;
  return R"({"type": "Sequence", "pretokenizers": [)" + steps + "]}";
}

}  // namespace

std::string added_tokens_json(const GgufVocabulary& vocabulary) {
  const auto& [tokens, types] = vocabulary;
  std::string list;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] != kControlToken && types[id] != kUserDefinedToken) continue;
    list += list.empty() ? "\n" : ",\n";
    list += R"(    {"id": )" + std::to_string(id) + R"(, "content": )";
    append_json_text(list, tokens[id], JsonEscapes::kPlain);
    list += R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, )";
    list += types[id] == kControlToken ? R"("special": true})" : R"("special": false})";
  }
  return "[" + list + "]";
}

std::string vocabulary_json(const GgufVocabulary& vocabulary) {
  const auto& tokens = vocabulary.tokens;
  JsonWriter json(JsonForm::kOneLine, JsonEscapes::kPlain);
  json.begin_object();
  for (std::size_t id = 0; id < tokens.size(); ++id) json.member(tokens[id], id);
  return json.end_object().take_value();
}

namespace {

std::string list_of(const std::vector<std::string_view>& texts) {
  JsonWriter json(JsonForm::kOneLine, JsonEscapes::kPlain);
  json.begin_array();
  for (const std::string_view text : texts) json.value(text);
  return json.end_array().take_value();
}

TokenizerSections byte_level_sections(const GgufHeader& header, const GgufVocabulary& vocabulary) {
  const PreTokenizerKind& kind = find_kind(header);
  JsonWriter model(JsonForm::kIndented, JsonEscapes::kPlain);
  model.begin_object();
  model.member("type", "BPE");
  model.key("dropout").null();
  model.key("unk_token").null();
  model.key("continuing_subword_prefix").null();
  model.key("end_of_word_suffix").null();
  model.member("fuse_unk", false);
  model.member("byte_fallback", false);
  model.member("ignore_merges", kind.whole_words);
  model.key("vocab").json(vocabulary_json(vocabulary));
  model.key("merges").json(list_of(header.texts("tokenizer.ggml.merges")));

  TokenizerSections sections;
  sections.added_tokens = added_tokens_json(vocabulary);
  if (kind.nfc) sections.normalizer = R"({"type": "NFC"})";
  sections.pre_tokenizer = pre_tokenizer(kind);
  sections.decoder = R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, )"
                     R"("use_regex": true})";
  sections.model = model.end_object().take_value();
  sections.bos = kind.bos;
  return sections;
}

GgufVocabulary read_vocabulary(const GgufHeader& header) {
  GgufVocabulary vocabulary{header.texts("tokenizer.ggml.tokens"),
                            header.integers("tokenizer.ggml.token_type")};
  const std::size_t count = vocabulary.tokens.size();
  if (count == 0) header.fail("tokenizer.ggml.tokens", "is missing or empty");
  if (vocabulary.types.empty()) vocabulary.types.assign(count, kNormalToken);
  if (vocabulary.types.size() != count) {
    header.fail("tokenizer.ggml.token_type", "has " + std::to_string(vocabulary.types.size()) +
                                                 " elements for " + std::to_string(count) +
                                                 " tokens");
  }
  return vocabulary;
}

TokenizerSections read_sections(const GgufHeader& header, const GgufVocabulary& vocabulary) {
  const std::string_view model = header.text("tokenizer.ggml.model").value_or("");
  if (model == "gpt2") return byte_level_sections(header, vocabulary);
  if (model == "llama") return sentencepiece_sections(header, vocabulary);
  header.fail("tokenizer.ggml.model",
              quote(model) +
                  " is not supported (byte-level BPE, 'gpt2', and SentencePiece's, 'llama', are; "
                  "--prompt-ids needs no tokenizer)");
}

// The token `name` ("bos", "eos"), if it is put around a text; else nothing. If the file does not
// say so and the default is true, but it names no token, none is added.
std::optional<std::uint64_t> token_around(const GgufHeader& header, const std::string& name,
                                          bool otherwise, std::size_t tokens) {
  const std::string key = "tokenizer.ggml." + name + "_token_id";
  const auto wanted = header.boolean("tokenizer.ggml.add_" + name + "_token");
  if (!wanted.value_or(otherwise)) return std::nullopt;
  const auto id = header.unsigned_integer(key);
  if (!id && wanted) header.fail(key, "is missing, though add_" + name + "_token is true");
  if (id && *id >= tokens) header.fail(key, "is outside the vocabulary");
  return id;
}

// `[BOS] text [EOS]`; for a pair of texts, the same twice, as transformers has it.
std::string post_processor(const GgufHeader& header, const GgufVocabulary& vocabulary, bool bos) {
  const auto& tokens = vocabulary.tokens;
  const auto before = token_around(header, "bos", bos, tokens.size());
  const auto after = token_around(header, "eos", false, tokens.size());
  if (!before && !after) return "null";
  const auto special = [&](std::uint64_t id, const std::string& type_id) {
    std::string element = R"({"SpecialToken": {"id": )";
    append_json_text(element, tokens[id], JsonEscapes::kPlain);
    return element + R"(, "type_id": )" + type_id + "}}";
  };
  const auto around = [&](const std::string& text, const std::string& type_id) {
    return (before ? special(*before, type_id) + ", " : "") + R"({"Sequence": {"id": ")" + text +
           R"(", "type_id": )" + type_id + "}}" + (after ? ", " + special(*after, type_id) : "");
  };
  std::string ids;
  for (const auto& id : {before, after}) {
    if (!id || (!ids.empty() && before == after)) continue;
    if (!ids.empty()) ids += ", ";
    append_json_text(ids, tokens[*id], JsonEscapes::kPlain);
    ids += R"(: {"id": )";
    append_json_text(ids, tokens[*id], JsonEscapes::kPlain);
    ids += R"(, "ids": [)" + std::to_string(*id) + R"(], "tokens": [)";
    append_json_text(ids, tokens[*id], JsonEscapes::kPlain);
    ids += "]}";
  }
  const std::string single = around("A", "0");
  return R"({"type": "TemplateProcessing", "single": [)" + single + R"(], "pair": [)" + single +
         ", " + around("B", "1") + R"(], "special_tokens": {)" + ids + "}}";
}

}  // namespace

std::string gguf_tokenizer_json(const std::filesystem::path& file, const CheckpointLimits& limits) {
  Shard identity;
  const GgufHeader header = read_gguf_header(file, limits, identity);
  if (!header.has("tokenizer.ggml.model")) {
    header.fail("tokenizer.ggml.model", "is missing: the file has no tokenizer");
  }
  const GgufVocabulary vocabulary = read_vocabulary(header);
  const TokenizerSections sections = read_sections(header, vocabulary);
  JsonWriter json(JsonForm::kIndented, JsonEscapes::kPlain);
  json.begin_object();
  json.member("version", "1.0");
  json.key("truncation").null();
  json.key("padding").null();
  json.key("added_tokens").json(sections.added_tokens);
  json.key("normalizer").json(sections.normalizer);
  json.key("pre_tokenizer").json(sections.pre_tokenizer);
  json.key("post_processor").json(post_processor(header, vocabulary, sections.bos));
  json.key("decoder").json(sections.decoder);
  json.key("model").json(sections.model);
  return json.end_object().take();
}

}  // namespace berth

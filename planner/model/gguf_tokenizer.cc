// tokenizer.json out of GGUF's vocabulary. llama.cpp keeps the name of a pre-tokenizer only; what
// it stands for is in its llama-vocab.cpp and, as steps, in the tokenizer.json files it was made
// from.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "planner/checkpoint/gguf_header.h"
#include "planner/checkpoint/quote.h"
#include "planner/model/gguf.h"
#include "planner/model/json_text.h"

namespace berth {
namespace {

constexpr std::int64_t kControl = 3;  // token types of llama.cpp
constexpr std::int64_t kUserDefined = 4;

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
  std::vector<std::string_view> names;  // tokenizer.ggml.pre
  std::string_view regex;               // splits before bytes are mapped; empty: GPT-2's own
  bool digits = false;                  // each digit a word
  bool whole_words = false;             // a word that is a token is not merged ("ignore_merges")
  bool nfc = false;
};

const std::vector<PreTokenizerKind>& kinds() {
  static const std::vector<PreTokenizerKind> all = {
      {{"gpt-2"}, ""},
      {{"smollm", "starcoder"}, "", true},
      {{"llama-bpe", "llama3", "llama-v3"}, kLlama3Regex, false, true},
      {{"qwen2", "deepseek-r1-qwen"}, kQwen2Regex, false, false, true},
      {{"tekken"}, kTekkenRegex, false, true},
  };
  return all;
}

const PreTokenizerKind& find_kind(const GgufHeader& header) {
  const auto model = header.text("tokenizer.ggml.model");
  if (!model) header.fail("tokenizer.ggml.model", "is missing: the file has no tokenizer");
  if (*model != "gpt2") {
    header.fail("tokenizer.ggml.model",
                quote(*model) +
                    " is not supported (byte-level BPE, 'gpt2', is; token ids do "
                    "without a tokenizer: --prompt-ids)");
  }
  std::string_view pre = header.text("tokenizer.ggml.pre").value_or("default");
  // Where llama.cpp guesses: only GPT-2's own models can mean nothing else.
  if (pre == "default" && header.text("general.architecture") == "gpt2") pre = "gpt-2";
  std::string known;
  for (const PreTokenizerKind& kind : kinds()) {
    for (const std::string_view name : kind.names) {
      if (name == pre) return kind;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
  }
  header.fail("tokenizer.ggml.pre", quote(pre) + " is not supported (" + known +
                                        " are; token ids do without a tokenizer: --prompt-ids)");
}

std::string split_step(std::string_view regex) {
  std::string step = R"({"type": "Split", "pattern": {"Regex": )";
  append_json(step, regex);
  return step + R"(}, "behavior": "Isolated", "invert": false})";
}

std::string pre_tokenizer(const PreTokenizerKind& kind) {
  std::string steps;
  if (kind.digits) steps += std::string(kDigitsStep) + ", ";
  if (!kind.regex.empty()) steps += split_step(kind.regex) + ", ";
  steps += kind.regex.empty() ? kGpt2Step : kBytesStep;
  return R"({"type": "Sequence", "pretokenizers": [)" + steps + "]}";
}

// Control tokens and those that a user added are looked for in the text before it is split.
std::string added_tokens(const std::vector<std::string_view>& tokens,
                         const std::vector<std::int64_t>& types) {
  std::string list;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] != kControl && types[id] != kUserDefined) continue;
    list += list.empty() ? "\n" : ",\n";
    list += R"(    {"id": )" + std::to_string(id) + R"(, "content": )";
    append_json(list, tokens[id]);
    list += R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, )";
    list += types[id] == kControl ? R"("special": true})" : R"("special": false})";
  }
  return "[" + list + "]";
}

std::string vocabulary(const std::vector<std::string_view>& tokens) {
  std::string out = "{";
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (id > 0) out += ", ";
    append_json(out, tokens[id]);
    out += ": " + std::to_string(id);
  }
  return out + "}";
}

std::string list_of(const std::vector<std::string_view>& texts) {
  std::string out = "[";
  for (const std::string_view text : texts) {
    if (out.size() > 1) out += ", ";
    append_json(out, text);
  }
  return out + "]";
}

}  // namespace

std::string gguf_tokenizer_json(const std::filesystem::path& file, const CheckpointLimits& limits) {
  Shard identity;
  const GgufHeader header = read_gguf_header(file, limits, identity);
  const PreTokenizerKind& kind = find_kind(header);
  const std::vector<std::string_view> tokens = header.texts("tokenizer.ggml.tokens");
  if (tokens.empty()) header.fail("tokenizer.ggml.tokens", "is missing or empty");
  std::vector<std::int64_t> types = header.integers("tokenizer.ggml.token_type");
  if (types.empty()) types.assign(tokens.size(), 1);
  if (types.size() != tokens.size()) {
    header.fail("tokenizer.ggml.token_type", "has " + std::to_string(types.size()) +
                                                 " elements for " + std::to_string(tokens.size()) +
                                                 " tokens");
  }
  JsonObject model;
  model.add("type", "BPE");
  model.add_json("dropout", "null");
  model.add_json("unk_token", "null");
  model.add_json("continuing_subword_prefix", "null");
  model.add_json("end_of_word_suffix", "null");
  model.add("fuse_unk", false);
  model.add("byte_fallback", false);
  model.add("ignore_merges", kind.whole_words);
  model.add_json("vocab", vocabulary(tokens));
  model.add_json("merges", list_of(header.texts("tokenizer.ggml.merges")));

  JsonObject json;
  json.add("version", "1.0");
  json.add_json("truncation", "null");
  json.add_json("padding", "null");
  json.add_json("added_tokens", added_tokens(tokens, types));
  json.add_json("normalizer", kind.nfc ? R"({"type": "NFC"})" : "null");
  json.add_json("pre_tokenizer", pre_tokenizer(kind));
  json.add_json("post_processor", "null");
  json.add_json("decoder",
                R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, )"
                R"("use_regex": true})");
  json.add_json("model", model.take());
  return json.take() + "\n";
}

}  // namespace berth

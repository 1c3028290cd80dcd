// What the kinds of GGUF tokenizers have in common: the vocabulary, and the sections of a
// tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/checkpoint/gguf/header.h"

namespace berth {

enum GgufTokenType : std::int64_t {  // as llama.cpp numbers them
  kNormalToken = 1,
  kUnknownToken = 2,
  kControlToken = 3,
  kUserDefinedToken = 4,
  kByteToken = 6,
};

struct GgufVocabulary {
  std::vector<std::string_view> tokens;  // by id; at least one
  std::vector<std::int64_t> types;       // by id; may hold any number
};

// The sections of a tokenizer.json, as JSON values. A section that is missing is "null".
struct TokenizerSections {
  std::string added_tokens;
  std::string normalizer = "null";
  std::string pre_tokenizer = "null";
  std::string decoder;
  std::string model;
  bool bos = false;  // whether a text begins with the BOS token, if the file does not say
};

// The sections for tokenizer.ggml.model "llama": BPE over characters, with a score for each piece.
// Throws Error, and names the key, if something is broken or not supported.
TokenizerSections sentencepiece_sections(const GgufHeader& header, GgufVocabulary vocabulary);

// The added_tokens section: control tokens and tokens that a user added. Tokenizers look for these
// in a text before they split it.
std::string added_tokens_json(const GgufVocabulary& vocabulary);
std::string vocabulary_json(const GgufVocabulary& vocabulary);

}  // namespace berth

// What the kinds of GGUF tokenizers have in common: the vocabulary, and the parts that make up a
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
  std::vector<std::string_view> tokens;  // by id, at least one
  std::vector<std::int64_t> types;       // as many; any number
};

// JSON values, "null" where there is nothing.
struct TokenizerParts {
  std::string added_tokens;
  std::string normalizer = "null";
  std::string pre_tokenizer = "null";
  std::string decoder;
  std::string model;
  bool bos = false;  // a text begins with the BOS token where the file does not say
};

// tokenizer.ggml.model "llama": BPE over characters with a score for each piece. Throws Error
// naming the key of what is broken or not supported.
TokenizerParts sentencepiece_parts(const GgufHeader& header, GgufVocabulary vocabulary);

// Control tokens and those that a user added are looked for in the text before it is split.
std::string added_tokens_json(const GgufVocabulary& vocabulary);
std::string vocabulary_json(const GgufVocabulary& vocabulary);

}  // namespace berth

// BPE from a Hugging Face tokenizer.json, byte-level or SentencePiece's.
//
// It gives the ids that Hugging Face tokenizers gives. If a file asks for something that this code
// does not do, it throws an Error that names it; it never gives a wrong id.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"

namespace berth {

// Where a tokenizer's normalizer, pre-tokenizer and decoder come from.
enum class TokenizerSteps : std::uint8_t {
  kOfFile,
  // The steps that transformers' LlamaTokenizer builds in place of the file's where
  // `add_prefix_space` is false. A byte-level file keeps its own, as it does there.
  kLlamaWithoutPrefix,
};

// Ids become text one after another; each takes as long as it would alone. All that push() returns,
// one after another, and then finish(), is what Tokenizer::decode() gives for all ids.
class GrowingText {
 public:
  virtual ~GrowingText() = default;
  // The bytes that `id` adds and that no later id can change. They may end inside a UTF-8 sequence.
  // Byte tokens are held back, because they become text only together with those that follow.
  virtual std::string push(std::int64_t id) = 0;
  // The bytes that were held back. No id may follow.
  virtual std::string finish() = 0;
};

// Immutable after loading; const methods are safe from many threads.
class Tokenizer {
 public:
  static std::unique_ptr<Tokenizer> read(const std::filesystem::path& tokenizer_json,
                                         TokenizerSteps steps = TokenizerSteps::kOfFile);
  // The same of a text that `source` names in errors.
  static std::unique_ptr<Tokenizer> parse(std::string_view json, const std::string& source,
                                          TokenizerSteps steps = TokenizerSteps::kOfFile);
  virtual ~Tokenizer() = default;

  // `text` is UTF-8; ill-formed bytes are an Error naming the offset. No special tokens are added.
  virtual std::vector<std::int64_t> encode(std::string_view text) const = 0;
  // The same between the special tokens that the file wants around a single text, as transformers
  // hands it to a model: with Llama's, the one that begins a text.
  virtual std::vector<std::int64_t> encode_prompt(std::string_view text) const = 0;
  // A text that grows by one id at a time. Special tokens are kept if asked for. The tokenizer must
  // outlive it.
  virtual std::unique_ptr<GrowingText> grow(bool keep_special) const = 0;
  // Bytes of the ids; may end inside a UTF-8 sequence.
  std::string decode(const std::vector<std::int64_t>& ids, bool keep_special) const;
  virtual std::uint64_t vocabulary() const = 0;
};

}  // namespace berth

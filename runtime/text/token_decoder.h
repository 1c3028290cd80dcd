// Decoders of tokenizer.json: how tokens become text again. Each has the semantics of the Hugging
// Face tokenizers class of the same name, except that ByteLevel leaves bytes that are not UTF-8 as
// they are.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// `value`: the "decoder" of the file; none where there is none, which puts a space between tokens.
// Throws Error naming a type or an option that is not supported.
TokenDecoder make_token_decoder(const std::optional<JsonValue>& value);

// One text that is decoded token by token.
class StepwiseDecoder {
 public:
  explicit StepwiseDecoder(const TokenDecoder& decoder);
  // Returns the text that `token` adds and that no later token can change.
  std::string push(std::string token);
  // Returns the rest of the text; nothing may be pushed after it.
  std::string finish();

 private:
  std::string pass(std::vector<TokenPart> parts, std::size_t first);
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

// True for "<0x0A>", which byte fallback writes for a byte.
bool is_byte_token(std::string_view token);

}  // namespace berth

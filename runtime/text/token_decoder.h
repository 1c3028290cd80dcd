// Decoders of tokenizer.json: how tokens become text again. Each has the semantics of the Hugging
// Face tokenizers class of the same name, except that ByteLevel leaves bytes that are not UTF-8 as
// they are.
#pragma once

#include <optional>
#include <string_view>

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// `value`: the "decoder" of the file; null where there is none.
// Throws Error naming a type or an option that is not supported.
TokenDecoder make_token_decoder(const std::optional<JsonValue>& value);

// True for "<0x0A>", which byte fallback writes for a byte.
bool is_byte_token(std::string_view token);

}  // namespace berth

// Decoders of tokenizer.json: how tokens become text again. Each has the semantics of the Hugging
// Face tokenizers class of the same name, but that ByteLevel leaves bytes that are no UTF-8 as they
// are.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/json_value.h"

namespace berth {

// Rewrites the tokens, which joined are the text. Safe from many threads.
using Decoder = std::function<void(std::vector<std::string>&)>;

// `value`: the "decoder" of the file; null where there is none.
// Throws Error naming a type or an option that is not supported.
Decoder make_decoder(const std::optional<JsonValue>& value);

// True for "<0x0A>", which byte fallback writes for a byte.
bool is_byte_token(std::string_view token);

// Each `from` in `text`, which must not be empty, becomes `to`.
void replace_all(std::string& text, std::string_view from, std::string_view to);

}  // namespace berth

// Normalizers and pre-tokenizers of tokenizer.json: what happens to a text before its words are
// encoded. Each has the semantics of the Hugging Face tokenizers class of the same name.
#pragma once

#include <unicode/unistr.h>

#include <functional>
#include <optional>
#include <vector>

#include "runtime/text/json_value.h"

namespace berth {

// Rewrites a text. Safe from many threads.
using Normalizer = std::function<icu::UnicodeString(const icu::UnicodeString&)>;

// Cuts each piece into smaller ones, or rewrites it; empty pieces are dropped. Safe from many
// threads.
using PreTokenizer = std::function<void(std::vector<icu::UnicodeString>&)>;

// `value`: the "normalizer" or "pre_tokenizer" of the file; nullopt where it is null.
// Null results do nothing. Throws Error naming a type or an option that is not supported.
Normalizer make_normalizer(const std::optional<JsonValue>& value);
PreTokenizer make_pretokenizer(const std::optional<JsonValue>& value);

}  // namespace berth

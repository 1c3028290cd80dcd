// Pre-tokenizers of tokenizer.json: what cuts a text into words before they are encoded. Each has
// the semantics of the Hugging Face tokenizers class of the same name.
#pragma once

#include <optional>

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// `value`: the "pre_tokenizer" of the file; nullopt where it is null. A null result does nothing.
// Throws Error naming a type or an option that is not supported.
PreTokenizer make_pretokenizer(const std::optional<JsonValue>& value);

}  // namespace berth

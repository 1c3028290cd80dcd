// Normalizers of tokenizer.json: what rewrites a text before it is cut into words. Each has the
// semantics of the Hugging Face tokenizers class of the same name.
#pragma once

#include <unicode/unistr.h>

#include <functional>
#include <optional>

#include "planner/base/json_value.h"

namespace berth {

// A stretch of the text.
struct TextPiece {
  icu::UnicodeString text;
  // Its first character is what the whole text begins with, rewritten or not: there alone does
  // Metaspace's scheme "first" put its mark.
  bool at_start = false;
};

// Rewrites a piece. Safe from many threads.
using Normalizer = std::function<void(TextPiece&)>;

// `value`: the "normalizer" of the file; nullopt where it is null. A null result does nothing.
// Throws Error naming a type or an option that is not supported.
Normalizer make_normalizer(const std::optional<JsonValue>& value);

}  // namespace berth

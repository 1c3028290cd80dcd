// Post-processors of tokenizer.json: they add the special tokens that a model expects around a
// text, as Hugging Face tokenizers does for a single text. Their work on offsets is not needed
// here.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/base/json_value.h"

namespace berth {

struct SpecialIds {
  std::vector<std::int64_t> before;
  std::vector<std::int64_t> after;
};

// `value`: the "post_processor" of the file; nullopt where it is null.
// Throws Error naming a type that is not supported, or what is missing.
SpecialIds read_post_processor(const std::optional<JsonValue>& value);

}  // namespace berth

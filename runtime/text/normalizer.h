// Normalizers of tokenizer.json: what rewrites a text before it is cut into words. Each has the
// semantics of the Hugging Face tokenizers class of the same name.
#pragma once

#include <optional>

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// `value`: the "normalizer" of the file; nullopt where it is null. A null result does nothing.
// Throws Error naming a type or an option that is not supported.
Normalizer make_normalizer(const std::optional<JsonValue>& value);

}  // namespace berth

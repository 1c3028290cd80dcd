// Metaspace of tokenizer.json, which is how SentencePiece treats spaces: a visible mark (U+2581)
// replaces each space, so that words begin with a mark. The pre-tokenizer writes the marks, and the
// decoder turns them back into spaces.
#pragma once

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// Both throw Error for an option that Hugging Face's Metaspace does not have.
PreTokenizer make_metaspace(const JsonValue& value);
TokenDecoder make_metaspace_decoder(const JsonValue& value);

}  // namespace berth

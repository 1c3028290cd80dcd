// Metaspace of tokenizer.json, SentencePiece's way with spaces: a visible mark (U+2581) stands for
// each, so that words begin with one. As pre-tokenizer it writes the marks, as decoder it reads
// them.
#pragma once

#include "planner/base/json_value.h"
#include "runtime/text/steps.h"

namespace berth {

// Throw Error for an option that is not one of Hugging Face's.
PreTokenizer make_metaspace(const JsonValue& value);
TokenDecoder make_metaspace_decoder(const JsonValue& value);

}  // namespace berth

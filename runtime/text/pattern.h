// Patterns of tokenizer.json, {"String": ..} or {"Regex": ..}, and what is done with what they
// match.
#pragma once

#include <unicode/unistr.h>

#include <functional>
#include <vector>

#include "planner/base/json_value.h"
#include "runtime/text/regex.h"

namespace berth {

// All of a text as matches and what lies between, in order. Safe from many threads.
using Pattern = std::function<std::vector<Stretch>(const icu::UnicodeString&)>;

// Throws Error naming the field for a regular expression that is not understood.
Pattern make_pattern(const JsonValue& value);

// `text` with each match replaced by `content`. Throws Error where it grows out of all proportion.
icu::UnicodeString replace_matches(const icu::UnicodeString& text,
                                   const std::vector<Stretch>& stretches,
                                   const icu::UnicodeString& content);

}  // namespace berth

// Patterns of tokenizer.json, {"String": ..} or {"Regex": ..}, and what is done with what they
// match.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/json_value.h"
#include "runtime/text/regex.h"

namespace berth {

// All of a text, well-formed UTF-8, as matches and what lies between, in order. Safe from many
// threads.
using Pattern = std::function<std::vector<Stretch>(std::string_view)>;

// Throws Error naming the field for a regular expression that is not understood.
Pattern make_pattern(const JsonValue& value);

// `text` with each match replaced by `content`. Throws Error if it gets longer than 2^30 bytes.
std::string replace_matches(std::string_view text, const std::vector<Stretch>& stretches,
                            std::string_view content);

// Each `from` in `text`, which must not be empty, becomes `to`.
void replace_all(std::string& text, std::string_view from, std::string_view to);

}  // namespace berth

// Regular expressions of tokenizer.json, which are Oniguruma's (Ruby syntax), run by ICU.
#pragma once

#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"

namespace berth {

// `pattern` rewritten to mean the same to ICU. The two differ in \s and \S (White_Space for
// Oniguruma), \w, \W, \h, \H, \v, and in ^ and $, which Oniguruma matches at every line.
// Throws Error for a construct that has no counterpart.
std::string onig_to_icu(std::string_view pattern);

// A stretch of a text, in UTF-16 units, that either matched or lies between two matches.
struct Stretch {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  bool match = false;
};

// Immutable; safe from many threads.
class Regex {
 public:
  // Throws Error for a pattern that ICU refuses, with the place in the pattern.
  explicit Regex(std::string_view onig_pattern);

  // All of `text`, in order; as with Oniguruma no empty match follows another match at once. Throws
  // Error where matching needs more than ICU's limits.
  std::vector<Stretch> find_all(const icu::UnicodeString& text) const;

 private:
  std::unique_ptr<icu::RegexPattern> pattern_;
};

// The same for a plain string; an empty `needle` matches nowhere.
std::vector<Stretch> find_all(const icu::UnicodeString& text, const icu::UnicodeString& needle);

}  // namespace berth

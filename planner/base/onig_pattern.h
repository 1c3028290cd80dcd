// Patterns compiled by Oniguruma. Hugging Face's tokenizers use it, and so does Berth: for their
// patterns, and in Python's syntax for patterns of module names.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "planner/base/oniguruma.h"

namespace berth {

struct OnigPatternFree {
  void operator()(regex_t* pattern) const { oniguruma().free_pattern(pattern); }
};
struct OnigMatchParamFree {
  void operator()(OnigMatchParam* param) const { oniguruma().free_match_param(param); }
};

// Does not change, so many threads may use it.
using OnigPattern = std::unique_ptr<regex_t, OnigPatternFree>;
// The limits of a search. Each thread needs its own.
using OnigSearchLimits = std::unique_ptr<OnigMatchParam, OnigMatchParamFree>;

// Compiles `pattern`. Throws Error with Oniguruma's reason if it is not a regular expression.
// Oniguruma itself limits how deep a pattern may be nested (4,096 levels). May be called from many
// threads.
OnigPattern compile_onig(std::string_view pattern, OnigEncoding encoding, OnigSyntaxType* syntax);

// Keeps a search from going on for hours or taking all memory. The first two limit how often it may
// go back and try another way, from one position of the text and in the whole search (0: no limit).
// `stack` is the number of entries of Oniguruma's stack, about 40 bytes each.
struct OnigLimits {
  unsigned long retries_at_a_place = 0;
  unsigned long retries_in_a_search = 0;
  unsigned stack = 0;
};
OnigSearchLimits make_search_limits(const OnigLimits& limits);

// Oniguruma's message for a negative result of one of its functions.
std::string onig_message(int status);

// The bytes of a text as Oniguruma's functions take them.
inline const OnigUChar* onig_begin(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}
inline const OnigUChar* onig_end(std::string_view text) { return onig_begin(text) + text.size(); }

}  // namespace berth

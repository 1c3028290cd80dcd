// Patterns compiled by Oniguruma, the engine of Hugging Face's tokenizers and, in Python's syntax,
// of the patterns for module names.
#pragma once

#ifndef ONIG_ESCAPE_UCHAR_COLLISION
#define ONIG_ESCAPE_UCHAR_COLLISION  // no macro UChar, which is a type of ICU's
#endif
#include <oniguruma.h>

#include <memory>
#include <string>
#include <string_view>

namespace berth {

struct OnigPatternFree {
  void operator()(regex_t* pattern) const { onig_free(pattern); }
};
struct OnigMatchParamFree {
  void operator()(OnigMatchParam* param) const { onig_free_match_param(param); }
};

// Immutable: safe from many threads.
using OnigPattern = std::unique_ptr<regex_t, OnigPatternFree>;
// The limits of a search. Not to be shared by threads.
using OnigSearchLimits = std::unique_ptr<OnigMatchParam, OnigMatchParamFree>;

// Throws Error with Oniguruma's reason where `pattern` is none. Oniguruma itself limits how deep a
// pattern may be nested (4,096 levels). Safe from many threads.
OnigPattern compile_onig(std::string_view pattern, OnigEncoding encoding, OnigSyntaxType* syntax);

// What keeps a search from going on for hours or taking all memory. `retries`: how often it may go
// back and try another way at one place of the text, and in one search (0: no limit);
// `stack`: entries of Oniguruma's stack, about 40 bytes each.
struct OnigLimits {
  unsigned long retries_at_a_place = 0;
  unsigned long retries_in_a_search = 0;
  unsigned stack = 0;
};
OnigSearchLimits make_search_limits(const OnigLimits& limits);

// The message that belongs to a negative result of one of Oniguruma's functions.
std::string onig_message(int status);

// Bytes as Oniguruma's functions take them.
inline const OnigUChar* onig_begin(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}
inline const OnigUChar* onig_end(std::string_view text) { return onig_begin(text) + text.size(); }

}  // namespace berth

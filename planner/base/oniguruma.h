// Oniguruma, opened at its first use.
//
// It is not linked, for two reasons. Debian's library also exports regcomp() and regexec(), which
// would take the place of glibc's in every program that links Berth. And `berth plan` starts sooner
// without one more shared library, which few plans need.
#pragma once

#ifndef ONIG_ESCAPE_UCHAR_COLLISION
#define ONIG_ESCAPE_UCHAR_COLLISION  // its macro UChar would hide ICU's type
#endif
#include <oniguruma.h>

namespace berth {

// The functions and tables of the library that Berth uses, under their names without `onig_`.
struct Oniguruma {
  decltype(&onig_initialize) initialize;
  decltype(&onig_new) make;
  decltype(&onig_free) free_pattern;
  decltype(&onig_error_code_to_str) error_code_to_str;
  decltype(&onig_new_match_param) new_match_param;
  decltype(&onig_free_match_param) free_match_param;
  decltype(&onig_initialize_match_param) initialize_match_param;
  decltype(&onig_set_retry_limit_in_match_of_match_param) set_retry_limit_in_match_of_match_param;
  decltype(&onig_set_retry_limit_in_search_of_match_param) set_retry_limit_in_search_of_match_param;
  decltype(&onig_set_match_stack_limit_size_of_match_param)
      set_match_stack_limit_size_of_match_param;
  decltype(&onig_match_with_param) match_with_param;
  decltype(&onig_search_with_param) search_with_param;
  decltype(&onig_region_new) region_new;
  decltype(&onig_region_free) region_free;
  decltype(&onig_get_options) get_options;
  OnigEncodingType* utf8;
  OnigSyntaxType* python_syntax;
  OnigSyntaxType* default_syntax;  // Oniguruma's own, which Hugging Face's tokenizers use
};

// Opens and initialises the library at the first call; later calls only return it. Safe from many
// threads. Throws Error if the library is not installed or lacks a function.
const Oniguruma& oniguruma();

}  // namespace berth

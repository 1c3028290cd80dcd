#include "planner/base/onig_pattern.h"

#include <new>

#include "berth/error.h"

namespace berth {
std::string onig_message(int status) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = oniguruma().error_code_to_str(text, status);
  return std::string(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length));
}

OnigPattern compile_onig(std::string_view pattern, OnigEncoding encoding, OnigSyntaxType* syntax) {
  regex_t* compiled = nullptr;
  OnigErrorInfo info{};
  const int status = oniguruma().make(&compiled, onig_begin(pattern), onig_end(pattern),
                                      ONIG_OPTION_NONE, encoding, syntax, &info);
  if (status != ONIG_NORMAL) {
    if (status == ONIGERR_MEMORY) throw std::bad_alloc();
    OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = oniguruma().error_code_to_str(text, status, &info);
    throw Error(std::string(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)));
  }
  return OnigPattern(compiled);
}

OnigSearchLimits make_search_limits(const OnigLimits& limits) {
  OnigSearchLimits param(oniguruma().new_match_param());
  if (!param) throw std::bad_alloc();
  oniguruma().initialize_match_param(param.get());
  oniguruma().set_retry_limit_in_match_of_match_param(param.get(), limits.retries_at_a_place);
  oniguruma().set_retry_limit_in_search_of_match_param(param.get(), limits.retries_in_a_search);
  oniguruma().set_match_stack_limit_size_of_match_param(param.get(), limits.stack);
  return param;
}

}  // namespace berth

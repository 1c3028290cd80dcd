#include "planner/base/oniguruma.h"

#include <dlfcn.h>

#include <string>

#include "berth/error.h"

namespace berth {
namespace {

constexpr const char* kLibrary = "libonig.so.5";

template <typename Symbol>
void find(void* library, const char* name, Symbol& symbol) {
  symbol = reinterpret_cast<Symbol>(::dlsym(library, name));
  if (symbol == nullptr) {
    throw Error(std::string(kLibrary) + ": has no " + name + "; Berth needs Oniguruma 6.9");
  }
}

Oniguruma open() {
  // It is never closed: compiled patterns may live until the process ends.
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    throw Error(std::string("regular expressions need Oniguruma (Debian: libonig5): ") +
                (why == nullptr ? kLibrary : why));
  }
  Oniguruma out{};
  find(library, "onig_initialize", out.initialize);
  find(library, "onig_new", out.make);
  find(library, "onig_free", out.free_pattern);
  find(library, "onig_error_code_to_str", out.error_code_to_str);
  find(library, "onig_new_match_param", out.new_match_param);
  find(library, "onig_free_match_param", out.free_match_param);
  find(library, "onig_initialize_match_param", out.initialize_match_param);
  find(library, "onig_set_retry_limit_in_match_of_match_param",
       out.set_retry_limit_in_match_of_match_param);
  find(library, "onig_set_retry_limit_in_search_of_match_param",
       out.set_retry_limit_in_search_of_match_param);
  find(library, "onig_set_match_stack_limit_size_of_match_param",
       out.set_match_stack_limit_size_of_match_param);
  find(library, "onig_match_with_param", out.match_with_param);
  find(library, "onig_search_with_param", out.search_with_param);
  find(library, "onig_region_new", out.region_new);
  find(library, "onig_region_free", out.region_free);
  find(library, "onig_get_options", out.get_options);
  find(library, "OnigEncodingUTF8", out.utf8);
  find(library, "OnigSyntaxPython", out.python_syntax);
  find(library, "OnigSyntaxOniguruma", out.default_syntax);
  OnigEncoding encoding = out.utf8;
  out.initialize(&encoding, 1);
  return out;
}

}  // namespace

const Oniguruma& oniguruma() {
  static const Oniguruma library = open();
  return library;
}

}  // namespace berth

// Regular expressions of tokenizer.json, run by the engine that Hugging Face's tokenizers run them
// with: Oniguruma, in its own syntax, with the character classes of the Unicode version that the
// reference has (reference_unicode.h).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"

namespace berth {

// A stretch of a text, in bytes, that either matched or lies between two matches.
struct Stretch {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool match = false;
};

// Immutable; safe from many threads.
class Regex {
 public:
  // Throws Error quoting the pattern, or its begin, where Oniguruma does not understand it, and
  // where it asks for what could give another result than the reference: \G, \X, \y, \Y and (?L).
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Cuts all of `text`, which must be well-formed UTF-8, into matches and what lies between, in
  // order. An empty match right behind another match does not count, as in the reference. Throws
  // Error quoting the pattern if matching at one position goes back more often than the reference
  // allows (10 million times) or needs a stack of more than 4 million entries, or if the whole
  // search takes longer than 10 s plus 10 s per MiB of text.
  std::vector<Stretch> find_all(std::string_view text) const;

 private:
  struct Compiled;
  std::string source_;
  std::unique_ptr<const Compiled> compiled_;
};

// The same for a plain string; an empty `needle` matches nowhere.
std::vector<Stretch> find_all(std::string_view text, std::string_view needle);

}  // namespace berth

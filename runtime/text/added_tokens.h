// Added tokens: strings that are one token wherever they stand in a text, found before anything
// else happens to it ("<|im_end|>").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace berth {

struct AddedToken {
  std::uint32_t id = 0;
  std::string content;       // as it is looked for: normalized where `normalized`
  bool single_word = false;  // no match inside a longer word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // looked for in the normalized text, else in the text as given
  bool special = false;
};

// A piece of text, or an added token where `id` is set.
struct TextSegment {
  std::string text;
  std::optional<std::uint32_t> id;
};

// Finds the added tokens in a text. It goes from left to right, takes the longest token that
// matches at a position, and goes on behind it, so that tokens never overlap. Immutable once
// filled; safe from many threads.
class AddedTokenFinder {
 public:
  void add(const AddedToken& token);
  // Appends the segments of `text`; none for an empty text. Throws Error if a token with `lstrip`
  // lies in white space that the token before it takes (`rstrip`) and that goes on behind it.
  void split(std::string_view text, std::vector<TextSegment>& segments) const;

 private:
  const AddedToken* match_at(std::string_view text, std::size_t at) const;

  // By the first byte, longest first.
  std::unordered_map<char, std::vector<AddedToken>> by_first_;
};

}  // namespace berth

#include "runtime/text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

namespace berth {
namespace {

using icu::UnicodeString;

// \w of Rust's regular expressions (UTS 18, annex C), which decides what single_word means.
bool is_word(UChar32 c) {
  return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

bool stands_alone(const UnicodeString& text, std::int32_t begin, std::int32_t end) {
  return (begin == 0 || !is_word(text.char32At(begin - 1))) &&
         (end == text.length() || !is_word(text.char32At(end)));
}

std::int32_t skip_space_left(const UnicodeString& text, std::int32_t at) {
  while (at > 0 && u_isUWhiteSpace(text.charAt(at - 1))) --at;  // all of it is in the BMP
  return at;
}

std::int32_t skip_space_right(const UnicodeString& text, std::int32_t at) {
  while (at < text.length() && u_isUWhiteSpace(text.charAt(at))) ++at;
  return at;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token) {
  const UnicodeString& content = token.content;
  if (content.isEmpty()) return;
  auto& entries = by_first_[content.charAt(0)];
  const auto longer = [&](const AddedToken& other) {
    return other.content.length() >= content.length();
  };
  const auto at = std::partition_point(entries.begin(), entries.end(), longer);
  entries.insert(at, token);
}

const AddedToken* AddedTokenFinder::match_at(const UnicodeString& text, std::int32_t at) const {
  const auto entries = by_first_.find(text.charAt(at));
  if (entries == by_first_.end()) return nullptr;
  for (const AddedToken& token : entries->second) {
    if (text.compare(at, token.content.length(), token.content) == 0) return &token;
  }
  return nullptr;
}

void AddedTokenFinder::split(const UnicodeString& text, std::vector<Segment>& segments) const {
  std::int32_t done = 0;
  const auto append_text = [&](std::int32_t end) {
    if (done < end) segments.push_back({UnicodeString(text, done, end - done), std::nullopt});
  };
  for (std::int32_t at = 0; at < text.length();) {
    const AddedToken* token = match_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::int32_t begin = at;
    std::int32_t end = at + token->content.length();
    at = end;  // a match that single_word discards is passed over all the same
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(skip_space_left(text, begin), done);
    if (token->rstrip) end = skip_space_right(text, end);
    append_text(begin);
    segments.push_back({{}, token->id});
    done = std::max(done, end);
  }
  append_text(text.length());
}

}  // namespace berth

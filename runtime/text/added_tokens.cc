#include "runtime/text/added_tokens.h"

#include <algorithm>

#include "berth/error.h"
#include "runtime/text/code_points.h"
#include "runtime/text/reference_unicode.h"

namespace berth {
namespace {

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin == 0 || !is_word(previous_code_point(text, begin))) &&
         (end == text.size() || !is_word(next_code_point(text, end)));
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token) {
  const std::string& content = token.content;
  if (content.empty()) return;
  auto& entries = by_first_[content[0]];
  const auto longer = [&](const AddedToken& other) {
    return other.content.size() >= content.size();
  };
  const auto at = std::partition_point(entries.begin(), entries.end(), longer);
  entries.insert(at, token);
}

const AddedToken* AddedTokenFinder::match_at(std::string_view text, std::size_t at) const {
  const auto entries = by_first_.find(text[at]);
  if (entries == by_first_.end()) return nullptr;
  for (const AddedToken& token : entries->second) {
    if (text.substr(at).starts_with(token.content)) return &token;
  }
  return nullptr;
}

void AddedTokenFinder::split(std::string_view text, std::vector<TextSegment>& segments) const {
  std::size_t done = 0;
  const auto append_text = [&](std::size_t end) {
    if (done < end) segments.push_back({std::string(text.substr(done, end - done)), std::nullopt});
  };
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = match_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;  // a match that single_word discards is passed over all the same
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(skip_white_space_back(text, begin), done);
    if (token->rstrip) end = skip_white_space(text, end);
    if (begin > end) {  // Hugging Face gives up here
      throw Error("the added token '" + token->content +
                  "' lies in white space that the added token before it takes");
    }
    append_text(begin);
    if (begin < end) segments.push_back({{}, token->id});  // one that is taken up whole is none
    // Not the greater of the two: a token may lie in the white space that the one before it took.
    // It is a token all the same, and the white space behind it is text again: as in Hugging Face.
    done = end;
  }
  append_text(text.size());
}

}  // namespace berth

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
    at = end;  // the search goes on behind a match, even if single_word discards it
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(skip_white_space_back(text, begin), done);
    if (token->rstrip) end = skip_white_space(text, end);
    if (begin > end) {  // Hugging Face fails here, too
      throw Error("the added token '" + token->content +
                  "' lies in white space that the added token before it takes");
    }
    append_text(begin);
    // A token with lstrip is dropped if it ends with the white space that the one before it took.
    if (begin < end) segments.push_back({{}, token->id});
    // This may move `done` back: a token without lstrip may lie in the white space that the one
    // before it took. As in Hugging Face, it is a token all the same, and what comes behind it is
    // text again.
    done = end;
  }
  append_text(text.size());
}

}  // namespace berth

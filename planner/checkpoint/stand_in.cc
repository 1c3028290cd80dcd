#include "planner/checkpoint/stand_in.h"

#include <algorithm>

#include "berth/error.h"

namespace berth {
namespace {

// Compares without regard to case; `lower` must be in lower case.
bool begins_as(std::string_view text, std::string_view lower) {
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; };
  return std::ranges::equal(text.substr(0, lower.size()), lower, same);
}

}  // namespace

void refuse_stand_in(std::string_view head, const std::string& source) {
  if (head.starts_with("version https://git-lfs")) {
    throw Error(source +
                ": a Git LFS pointer, not the file itself: fetch it, for example with git lfs "
                "pull");
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  if (begins_as(head, "<!doctype") || begins_as(head, "<html")) {
    throw Error(source +
                ": a web page (HTML), not the file itself: the server answered with an error or a "
                "login page when it was downloaded; fetch it again");
  }
}

}  // namespace berth

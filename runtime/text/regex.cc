#include "runtime/text/regex.h"

#include <algorithm>

#include "berth/error.h"

namespace berth {
namespace {

constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

// One pass over a pattern; `out` grows as `at` moves.
class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : pattern_(pattern) {}

  std::string rewrite() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        open_class();
      } else if (c == ']' && depth_ > 0) {
        --depth_;
        copy(1);
      } else if (depth_ == 0 && c == '(' && pattern_.substr(at_, 2) == "(?") {
        group();
      } else if (depth_ == 0 && c == '}' && pattern_.substr(at_, 2) == "}+") {
        fail("a '+' after '{..}'");  // greedy in Oniguruma, possessive in ICU
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error("regular expression '" + std::string(pattern_) + "': " + what + " at offset " +
                std::to_string(at_) + " is not supported");
  }

  void copy(std::size_t count) {
    out_.append(pattern_.substr(at_, count));
    at_ += count;
  }

  // The escape at hand with the "{..}" that belongs to it.
  void copy_braced() {
    const bool braced = pattern_.substr(at_ + 2, 1) == "{" || out_.ends_with('{');
    const auto end = braced ? pattern_.find('}', at_) : std::string_view::npos;
    copy(end == std::string_view::npos ? std::min<std::size_t>(2, pattern_.size() - at_)
                                       : end + 1 - at_);
  }

  void replace(std::size_t count, std::string_view with) {
    out_.append(with);
    at_ += count;
  }

  void set(std::string_view members, bool negated) {
    if (depth_ > 0 && !negated) {
      replace(2, members);
    } else {
      replace(2, std::string(negated ? "[^" : "[") + std::string(members) + "]");
    }
  }

  void open_class() {
    const auto posix_end = pattern_.find(":]", at_);
    if (depth_ > 0 && pattern_.substr(at_, 2) == "[:" && posix_end != std::string_view::npos) {
      copy(posix_end + 2 - at_);
      return;
    }
    ++depth_;
    copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == ']') replace(1, "\\]");  // a first ']' is itself
  }

  void escape() {
    if (at_ + 1 == pattern_.size()) fail("a final backslash");
    switch (pattern_[at_ + 1]) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'w':
      case 'W':
        return set(kWord, pattern_[at_ + 1] == 'W');
      case 'h':
      case 'H':
        return set("0-9a-fA-F", pattern_[at_ + 1] == 'H');
      case 'v':
        return replace(2, "\\x0B");
      case 'p':
        if (pattern_.substr(at_, 4) == "\\p{^") replace(4, "\\P{");
        return copy_braced();
      case 'P':
      case 'x':
        return copy_braced();
      case 'K':
      case 'G':
      case 'g':
      case 'M':
      case 'C':
      case 'O':
      case 'N':
      case 'y':
      case 'Y':
        fail(std::string("'\\") + pattern_[at_ + 1] + "'");
      default:
        return copy(2);
    }
  }

  // "(?imx-imx)" and "(?imx-imx:". Oniguruma's m lets the dot match a newline; ICU's flag for that
  // makes it match \r\n as one, so there is no counterpart.
  void group() {
    copy(2);
    if (at_ < pattern_.size() && (pattern_[at_] == '~' || pattern_[at_] == '(')) {
      fail(std::string("'(?") + pattern_[at_] + "'");
    }
    const auto end = pattern_.find_first_not_of("imx-", at_);
    if (end == std::string_view::npos || (pattern_[end] != ':' && pattern_[end] != ')')) return;
    if (pattern_.substr(at_, end - at_).find('m') != std::string_view::npos) fail("the flag 'm'");
    copy(end - at_);
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  int depth_ = 0;  // of nested [..]
  std::string out_;
};

void append_stretch(std::vector<Stretch>& stretches, std::int32_t& done, std::int32_t begin,
                    std::int32_t end) {
  if (done < begin) stretches.push_back({done, begin, false});
  stretches.push_back({begin, end, true});
  done = end;
}

}  // namespace

std::string onig_to_icu(std::string_view pattern) { return Rewriter(pattern).rewrite(); }

Regex::Regex(std::string_view onig_pattern) {
  const auto source = icu::UnicodeString::fromUTF8(onig_to_icu(onig_pattern));
  UParseError place{};
  UErrorCode status = U_ZERO_ERROR;
  // UNIX_LINES: only \n ends a line. MULTILINE: ^ and $ match at every line.
  pattern_.reset(
      icu::RegexPattern::compile(source, UREGEX_UNIX_LINES | UREGEX_MULTILINE, place, status));
  if (U_FAILURE(status)) {
    throw Error("regular expression '" + std::string(onig_pattern) + "' is not understood (" +
                u_errorName(status) + " near offset " + std::to_string(place.offset) + ")");
  }
}

std::vector<Stretch> Regex::find_all(const icu::UnicodeString& text) const {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::RegexMatcher> matcher(pattern_->matcher(text, status));
  std::vector<Stretch> stretches;
  std::int32_t done = 0;
  while (U_SUCCESS(status) && matcher->find(status)) {
    const std::int32_t begin = matcher->start(status);
    const std::int32_t end = matcher->end(status);
    if (begin == end && begin == done && !stretches.empty()) continue;
    append_stretch(stretches, done, begin, end);
  }
  if (U_FAILURE(status)) {
    throw Error(std::string("splitting the text by its regular expression failed: ") +
                u_errorName(status));
  }
  if (done < text.length()) stretches.push_back({done, text.length(), false});
  return stretches;
}

std::vector<Stretch> find_all(const icu::UnicodeString& text, const icu::UnicodeString& needle) {
  std::vector<Stretch> stretches;
  std::int32_t done = 0;
  while (!needle.isEmpty()) {
    const std::int32_t begin = text.indexOf(needle, done);
    if (begin < 0) break;
    append_stretch(stretches, done, begin, begin + needle.length());
  }
  if (done < text.length()) stretches.push_back({done, text.length(), false});
  return stretches;
}

}  // namespace berth

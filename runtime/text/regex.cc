#include "runtime/text/regex.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>

#include "berth/error.h"
#include "planner/base/onig_pattern.h"
#include "planner/base/quote.h"
#include "runtime/text/code_points.h"
#include "runtime/text/reference_unicode.h"

namespace berth {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestPattern = 1 << 16;  // bytes; compiling may take more than linear time

// At one position the limit is Oniguruma's default, which the reference has, too.
constexpr OnigLimits kLimitsOfAPlace{
    .retries_at_a_place = 10'000'000, .retries_in_a_search = 0, .stack = 1 << 22};

// About how many steps, of a nanosecond each, a search may take without a look at the clock. From
// this follows how often it may go back, because each time it may go over the rest of the text.
constexpr std::size_t kStepsOfASearch = std::size_t{1} << 30;

OnigLimits limits_of_a_search(std::size_t text_size) {
  OnigLimits limits = kLimitsOfAPlace;
  limits.retries_in_a_search = std::max<std::size_t>(64, kStepsOfASearch / (text_size + 1));
  return limits;
}

struct RegionFree {
  void operator()(OnigRegion* region) const { oniguruma().region_free(region, 1); }
};

std::string named(std::string_view pattern) { return "regular expression " + quote(pattern); }

void refuse_what_may_differ(std::string_view pattern) {
  for (std::size_t at = pattern.find('\\'); at < pattern.size() - 1;
       at = pattern.find('\\', at + 2)) {
    // \G matches where a search starts, but next_place_by_place() starts at each position. The
    // others find the borders of grapheme clusters and words, for which we have no tables that
    // agree with the reference.
    if (std::string_view("GXyY").find(pattern[at + 1]) != std::string_view::npos) {
      throw Error(named(pattern) + ": '\\" + pattern[at + 1] + "' at offset " + std::to_string(at) +
                  " is not supported");
    }
  }
}

std::size_t behind_character(std::string_view text, std::size_t at) {
  if (at < text.size()) next_code_point(text, at);
  return at;
}

// The matches of a pattern in a text, one after another.
class Searcher {
 public:
  Searcher(regex_t* pattern, const std::string& source, std::string_view text)
      : pattern_(pattern),
        source_(source),
        text_(text),
        search_limits_(make_search_limits(limits_of_a_search(text.size()))) {
    if (!region_) throw std::bad_alloc();
  }

  // The first match that begins at `from` or later; nullopt if there is none. `from` is at most
  // text.size().
  std::optional<Stretch> next(std::size_t from) {
    look_at_clock();
    const int status = oniguruma().search_with_param(
        pattern_, onig_begin(text_), onig_end(text_), onig_begin(text_) + from, onig_end(text_),
        region_.get(), ONIG_OPTION_NONE, search_limits_.get());
    if (status == ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER ||
        status == ONIGERR_RETRY_LIMIT_IN_MATCH_OVER) {
      return next_place_by_place(from);
    }
    if (status == ONIG_MISMATCH) return std::nullopt;
    if (status < 0) fail(onig_message(status));
    return match();
  }

 private:
  // Does the same, but tries one position after the other and looks at the clock in between. This
  // is slower, and used if a search goes back too often. (To search the text part by part would not
  // do, because no match could go beyond its part.)
  std::optional<Stretch> next_place_by_place(std::size_t from) {
    const OnigSearchLimits limits = make_search_limits(kLimitsOfAPlace);
    for (;; from = behind_character(text_, from)) {
      look_at_clock();
      const int status = oniguruma().match_with_param(pattern_, onig_begin(text_), onig_end(text_),
                                                      onig_begin(text_) + from, region_.get(),
                                                      ONIG_OPTION_NONE, limits.get());
      if (status >= 0) return match();
      if (status != ONIG_MISMATCH) fail(onig_message(status));
      if (from == text_.size()) return std::nullopt;
    }
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(named(source_) + " cannot be matched: " + why);
  }

  // Throws Error if the search takes too long. Looks at the clock at every 16th call.
  void look_at_clock() {
    if (++calls_ % 16 != 0) return;
    const auto allowed = std::chrono::seconds(10) +
                         std::chrono::microseconds(10 * text_.size());  // 10 s per million bytes
    if (Clock::now() - start_ > allowed) fail("it takes too long");
  }

  Stretch match() const {
    if (region_->beg[0] < 0 || region_->beg[0] > region_->end[0]) {
      fail("a match ends before it begins");
    }
    return {static_cast<std::size_t>(region_->beg[0]), static_cast<std::size_t>(region_->end[0]),
            true};
  }

  regex_t* pattern_;
  const std::string& source_;
  std::string_view text_;
  OnigSearchLimits search_limits_;
  std::unique_ptr<OnigRegion, RegionFree> region_{oniguruma().region_new()};
  std::size_t calls_ = 0;
  Clock::time_point start_ = Clock::now();
};

void append_stretch(std::vector<Stretch>& stretches, std::size_t& done, const Stretch& match) {
  if (done < match.begin) stretches.push_back({done, match.begin, false});
  stretches.push_back(match);
  done = match.end;
}

void append_rest(std::vector<Stretch>& stretches, std::size_t done, std::string_view text) {
  if (done < text.size()) stretches.push_back({done, text.size(), false});
}

}  // namespace

struct Regex::Compiled {
  OnigPattern pattern;
};

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex::Regex(std::string_view pattern) : source_(pattern) {
  if (pattern.size() > kLongestPattern) {
    throw Error("a regular expression of " + std::to_string(pattern.size()) +
                " bytes is not supported (65,536 are)");
  }
  refuse_what_may_differ(pattern);
  try {
    compiled_ = std::make_unique<const Compiled>(
        Compiled{compile_onig(pattern, reference_utf8(), oniguruma().default_syntax)});
  } catch (const Error& error) {
    throw Error(named(pattern) + " is not understood (" + error.what() + ")");
  }
  if ((oniguruma().get_options(compiled_->pattern.get()) & ONIG_OPTION_FIND_LONGEST) != 0) {
    throw Error(named(pattern) + ": the flag 'L' is not supported");
  }
}

std::vector<Stretch> Regex::find_all(std::string_view text) const {
  std::vector<Stretch> stretches;
  Searcher searcher(compiled_->pattern.get(), source_, text);
  std::size_t done = 0;
  for (std::size_t from = 0; from <= text.size();) {
    const auto match = searcher.next(from);
    if (!match) break;
    if (match->begin < done) throw Error(named(source_) + ": its matches overlap");
    const bool empty = match->begin == match->end;
    from = match->end;
    if (empty && match->end == done && !stretches.empty()) {
      if (from == text.size()) break;
      from = behind_character(text, from);
      continue;
    }
    append_stretch(stretches, done, *match);
  }
  append_rest(stretches, done, text);
  return stretches;
}

std::vector<Stretch> find_all(std::string_view text, std::string_view needle) {
  std::vector<Stretch> stretches;
  std::size_t done = 0;
  while (!needle.empty()) {
    const std::size_t begin = text.find(needle, done);
    if (begin == std::string_view::npos) break;
    append_stretch(stretches, done, {begin, begin + needle.size(), true});
  }
  append_rest(stretches, done, text);
  return stretches;
}

}  // namespace berth

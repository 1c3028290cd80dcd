#include "planner/base/name_pattern.h"

#include <re2/re2.h>

#include <utility>

#include "berth/error.h"
#include "planner/base/onig_pattern.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::size_t kLongestRegex = 1024;
constexpr OnigLimits kLimits{
    .retries_at_a_place = 100'000, .retries_in_a_search = 100'000, .stack = 1 << 20};

}  // namespace

struct NamePattern::Compiled {
  explicit Compiled(std::string_view regex) : linear(as_re2(regex), options()) {
    if (!linear.ok())
      backtracking = compile_onig(regex, oniguruma().utf8, oniguruma().python_syntax);
  }

  static re2::StringPiece as_re2(std::string_view text) { return {text.data(), text.size()}; }
  static RE2::Options options() {
    RE2::Options options(RE2::Quiet);
    options.set_never_capture(true);
    return options;
  }

  RE2 linear;
  OnigPattern backtracking;  // null where RE2 understands the pattern
};

NamePattern::NamePattern(std::unique_ptr<const Compiled> compiled)
    : compiled_(std::move(compiled)) {}
NamePattern::~NamePattern() = default;
NamePattern::NamePattern(NamePattern&&) noexcept = default;
NamePattern& NamePattern::operator=(NamePattern&&) noexcept = default;

std::optional<NamePattern> NamePattern::compile(std::string_view regex) {
  if (regex.size() > kLongestRegex) return std::nullopt;
  try {
    return NamePattern(std::make_unique<const Compiled>(regex));
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool NamePattern::matches_start(std::string_view name) const {
  if (!compiled_->backtracking) {
    const auto text = Compiled::as_re2(name);
    return compiled_->linear.Match(text, 0, text.size(), RE2::ANCHOR_START, nullptr, 0);
  }
  thread_local const OnigSearchLimits limits = make_search_limits(kLimits);
  const int status = oniguruma().match_with_param(
      compiled_->backtracking.get(), onig_begin(name), onig_end(name), onig_begin(name), nullptr,
      ONIG_OPTION_CHECK_VALIDITY_OF_STRING, limits.get());
  if (status >= 0) return true;
  if (status == ONIG_MISMATCH) return false;
  throw Error("the pattern " + quote(compiled_->linear.pattern()) +
              " cannot be matched with the name " + quote(name) + ": " + onig_message(status));
}

}  // namespace berth

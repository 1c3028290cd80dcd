#include "runtime/text/pattern.h"

#include <memory>

#include "berth/error.h"
#include "planner/base/position.h"

namespace berth {
namespace {

using icu::UnicodeString;

constexpr std::int64_t kMostUnits = std::int64_t{1} << 30;  // of UTF-16; ICU's lengths are 32 bits

Pattern make_regex(const JsonValue& regex) {
  const auto compiled =
      with_position(regex, [&] { return std::make_shared<const Regex>(regex.text()); });
  return [compiled](const UnicodeString& text) { return compiled->find_all(text); };
}

}  // namespace

Pattern make_pattern(const JsonValue& value) {
  if (const auto regex = value.get("Regex")) return make_regex(*regex);
  if (const auto plain = value.get("String")) {
    if (plain->text().empty()) plain->fail("must not be empty");
    return [needle = UnicodeString::fromUTF8(plain->text())](const UnicodeString& text) {
      return find_all(text, needle);
    };
  }
  value.fail("must be {\"Regex\": ..} or {\"String\": ..}");
}

UnicodeString replace_matches(const UnicodeString& text, const std::vector<Stretch>& stretches,
                              const UnicodeString& content) {
  std::int64_t length = 0;
  for (const Stretch& stretch : stretches) {
    length += stretch.match ? content.length() : stretch.end - stretch.begin;
  }
  if (length > kMostUnits) throw Error("replacing makes the text longer than 2^30 characters");
  UnicodeString replaced(static_cast<std::int32_t>(length), 0, 0);
  for (const Stretch& stretch : stretches) {
    if (stretch.match) {
      replaced.append(content);
    } else {
      replaced.append(text, stretch.begin, stretch.end - stretch.begin);
    }
  }
  return replaced;
}

}  // namespace berth

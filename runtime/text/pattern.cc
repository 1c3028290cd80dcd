#include "runtime/text/pattern.h"

#include <memory>

#include "berth/error.h"
#include "planner/base/position.h"

namespace berth {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;
constexpr std::size_t kMostOfAToken = std::size_t{1} << 24;

Pattern make_regex(const JsonValue& regex) {
  const auto compiled =
      with_position(regex, [&] { return std::make_shared<const Regex>(regex.text()); });
  return [compiled](std::string_view text) { return compiled->find_all(text); };
}

}  // namespace

Pattern make_pattern(const JsonValue& value) {
  if (const auto regex = value.get("Regex")) return make_regex(*regex);
  if (const auto plain = value.get("String")) {
    if (plain->text().empty()) plain->fail("must not be empty");
    return [needle = std::string(plain->text())](std::string_view text) {
      return find_all(text, needle);
    };
  }
  value.fail("must be {\"Regex\": ..} or {\"String\": ..}");
}

std::string replace_matches(std::string_view text, const std::vector<Stretch>& stretches,
                            std::string_view content) {
  std::size_t length = 0;
  for (const Stretch& stretch : stretches) {
    length += stretch.match ? content.size() : stretch.end - stretch.begin;
  }
  if (length > kMostBytes) throw Error("replacing makes the text longer than 2^30 bytes");
  std::string replaced;
  replaced.reserve(length);
  for (const Stretch& stretch : stretches) {
    replaced += stretch.match ? content : text.substr(stretch.begin, stretch.end - stretch.begin);
  }
  return replaced;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string replaced;
  std::size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    replaced.append(text, done, at - done).append(to);
    if (replaced.size() > kMostOfAToken) throw Error("a token becomes longer than 2^24 bytes");
    done = at + from.size();
  }
  text = replaced.append(text, done);
}

}  // namespace berth

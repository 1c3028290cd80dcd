#include "runtime/text/normalizer.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <string>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "runtime/text/pattern.h"

namespace berth {
namespace {

using icu::UnicodeString;

Normalizer unicode_form(const icu::Normalizer2* (*instance)(UErrorCode&)) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* form = instance(status);  // a singleton of ICU's
  if (U_FAILURE(status)) throw Error(std::string("ICU: ") + u_errorName(status));
  return [form](TextPiece& piece) {
    UErrorCode failed = U_ZERO_ERROR;
    piece.text = form->normalize(piece.text, failed);
    if (U_FAILURE(failed)) throw Error(std::string("normalizing text: ") + u_errorName(failed));
  };
}

// Character by character, as Rust's char::to_lowercase: no context (final sigma), no language.
void lowercase(TextPiece& piece) {
  const UnicodeString& text = piece.text;
  UnicodeString lowered;
  for (std::int32_t at = 0; at < text.length(); at = text.moveIndex32(at, 1)) {
    lowered.append(UnicodeString(text.char32At(at)).toLower(icu::Locale::getRoot()));
  }
  piece.text = lowered;
}

Normalizer make_prepend(const JsonValue& value) {
  return [prefix = UnicodeString::fromUTF8(value.require("prepend").text())](TextPiece& piece) {
    if (!piece.text.isEmpty()) piece.text.insert(0, prefix);
  };
}

// What replaces a match counts, with Hugging Face, as standing where the match's last character
// stood, and what replaces it with nothing leaves what comes after.
bool moves_start(const UnicodeString& text, const Stretch& first, const UnicodeString& content) {
  return first.match && first.begin < first.end &&
         (content.isEmpty() || text.moveIndex32(first.begin, 1) < first.end);
}

Normalizer make_replace(const JsonValue& value) {
  return [pattern = make_pattern(value.require("pattern")),
          content = UnicodeString::fromUTF8(value.require("content").text())](TextPiece& piece) {
    const std::vector<Stretch> stretches = pattern(piece.text);
    if (!stretches.empty() && moves_start(piece.text, stretches[0], content)) {
      piece.at_start = false;
    }
    piece.text = replace_matches(piece.text, stretches, content);
  };
}

Normalizer make_strip(const JsonValue& value) {
  return [left = value.require("strip_left").boolean(),
          right = value.require("strip_right").boolean()](TextPiece& piece) {
    const UnicodeString& text = piece.text;
    std::int32_t begin = 0;
    std::int32_t end = text.length();
    while (left && begin < end && u_isUWhiteSpace(text.charAt(begin))) ++begin;
    while (right && begin < end && u_isUWhiteSpace(text.charAt(end - 1))) --end;
    if (begin > 0) piece.at_start = false;
    piece.text = UnicodeString(text, begin, end - begin);
  };
}

Normalizer make_sequence(const JsonValue& value) {
  std::vector<Normalizer> steps;
  for (const auto& step : value.require("normalizers").list()) {
    steps.push_back(make_normalizer(step));
  }
  return [steps = std::move(steps)](TextPiece& piece) {
    for (const auto& step : steps) step(piece);
  };
}

}  // namespace

Normalizer make_normalizer(const std::optional<JsonValue>& value) {
  if (!value) return nullptr;
  const auto type = value->type();
  if (type == "NFC") return unicode_form(&icu::Normalizer2::getNFCInstance);
  if (type == "NFD") return unicode_form(&icu::Normalizer2::getNFDInstance);
  if (type == "NFKC") return unicode_form(&icu::Normalizer2::getNFKCInstance);
  if (type == "NFKD") return unicode_form(&icu::Normalizer2::getNFKDInstance);
  if (type == "Lowercase") return lowercase;
  if (type == "Prepend") return make_prepend(*value);
  if (type == "Replace") return make_replace(*value);
  if (type == "Strip") return make_strip(*value);
  if (type == "Sequence") return make_sequence(*value);
  value->fail("type " + quote(type) +
              " is not supported (NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip and "
              "Sequence are)");
}

}  // namespace berth

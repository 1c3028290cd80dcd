#include "runtime/text/normalizer.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "runtime/text/code_points.h"
#include "runtime/text/pattern.h"
#include "runtime/text/reference_unicode.h"

namespace berth {
namespace {

Normalizer unicode_form(NormalForm form) {
  return [form](TextPiece& piece) { piece.text = normalize(form, piece.text); };
}

Normalizer make_prepend(const JsonValue& value) {
  return [prefix = std::string(value.require("prepend").text())](TextPiece& piece) {
    if (!piece.text.empty()) piece.text.insert(0, prefix);
  };
}

// Whether the piece no longer begins where the whole text begins, once `first`, its first stretch,
// is replaced by `content`. For Hugging Face, what replaces a match stands where the match's last
// character stood; if nothing replaces it, the piece begins with what comes after the match.
bool moves_start(std::string_view text, const Stretch& first, std::string_view content) {
  if (!first.match || first.begin == first.end) return false;
  std::size_t second = first.begin;  // character
  next_code_point(text, second);
  return content.empty() || second < first.end;
}

Normalizer make_replace(const JsonValue& value) {
  return [pattern = make_pattern(value.require("pattern")),
          content = std::string(value.require("content").text())](TextPiece& piece) {
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
    const std::string& text = piece.text;
    const std::size_t begin = left ? skip_white_space(text, 0) : 0;
    const std::size_t end = right ? skip_white_space_back(text, text.size()) : text.size();
    if (begin > 0) piece.at_start = false;
    piece.text = begin < end ? text.substr(begin, end - begin) : std::string();
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
  if (type == "NFC") return unicode_form(NormalForm::kNfc);
  if (type == "NFD") return unicode_form(NormalForm::kNfd);
  if (type == "NFKC") return unicode_form(NormalForm::kNfkc);
  if (type == "NFKD") return unicode_form(NormalForm::kNfkd);
  if (type == "Lowercase") return [](TextPiece& piece) { piece.text = lowercase(piece.text); };
  if (type == "Prepend") return make_prepend(*value);
  if (type == "Replace") return make_replace(*value);
  if (type == "Strip") return make_strip(*value);
  if (type == "Sequence") return make_sequence(*value);
  value->fail("type " + quote(type) +
              " is not supported (NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip and "
              "Sequence are)");
}

}  // namespace berth

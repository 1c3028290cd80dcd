#include "runtime/text/normalizer.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/code_points.h"
#include "runtime/text/pattern.h"
#include "runtime/text/reference_unicode.h"
#include "runtime/text/step_table.h"

namespace berth {
namespace {

template <NormalForm form>
Normalizer make_form(const JsonValue&) {
  return [](TextPiece& piece) { piece.text = normalize(form, piece.text); };
}

Normalizer make_lowercase(const JsonValue&) {
  return [](TextPiece& piece) { piece.text = lowercase(piece.text); };
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

constexpr StepRow<Normalizer> kNormalizers[] = {
    {"NFC", make_form<NormalForm::kNfc>},
    {"NFD", make_form<NormalForm::kNfd>},
    {"NFKC", make_form<NormalForm::kNfkc>},
    {"NFKD", make_form<NormalForm::kNfkd>},
    {"Lowercase", make_lowercase},
    {"Prepend", make_prepend},
    {"Replace", make_replace},
    {"Strip", make_strip},
    {"Sequence", make_sequence},
};

}  // namespace

Normalizer make_normalizer(const std::optional<JsonValue>& value) {
  return value ? make_step(kNormalizers, *value) : nullptr;
}

}  // namespace berth

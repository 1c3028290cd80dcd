#include "runtime/text/metaspace.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "planner/base/quote.h"
#include "runtime/text/pattern.h"
#include "runtime/text/whole_tokens.h"

namespace berth {
namespace {

enum class Prepend { kAlways, kFirst, kNever };

// Old files have add_prefix_space instead of prepend_scheme; some newer ones have both.
Prepend read_prepend(const JsonValue& value) {
  const bool wanted = value.flag("add_prefix_space", true);
  const auto scheme = value.get("prepend_scheme");
  if (!scheme) return wanted ? Prepend::kAlways : Prepend::kNever;
  const auto name = scheme->text();
  if (name == "never") return Prepend::kNever;
  if (name != "always" && name != "first") {
    scheme->fail(quote(name) + " is not a scheme (always, first and never are)");
  }
  if (!wanted) scheme->fail("is not 'never', though add_prefix_space is false");
  return name == "always" ? Prepend::kAlways : Prepend::kFirst;
}

// Cuts a piece before each mark.
void cut(const TextPiece& piece, std::string_view mark, std::vector<TextPiece>& pieces) {
  for (std::size_t begin = 0, end = 0; begin < piece.text.size(); begin = end) {
    end = std::min(piece.text.find(mark, begin + 1), piece.text.size());
    pieces.push_back({piece.text.substr(begin, end - begin), piece.at_start && begin == 0});
  }
}

}  // namespace

PreTokenizer make_metaspace(const JsonValue& value) {
  const std::string mark(value.require("replacement").character());
  const Prepend prepend = read_prepend(value);
  const bool split = value.flag("split", true);
  return [mark, prepend, split](std::vector<TextPiece>& pieces) {
    std::vector<TextPiece> marked;
    for (TextPiece& piece : pieces) {
      piece.text = replace_matches(piece.text, find_all(piece.text, " "), mark);
      const bool wanted =
          prepend == Prepend::kAlways || (prepend == Prepend::kFirst && piece.at_start);
      if (wanted && !piece.text.starts_with(mark)) piece.text.insert(0, mark);
      if (split) {
        cut(piece, mark, marked);
      } else {
        marked.push_back(std::move(piece));
      }
    }
    pieces = std::move(marked);
  };
}

namespace {

// Removes all marks of the first token, wherever they stand in it, as Hugging Face does.
class MetaspaceStep final : public WholeTokens {
 public:
  MetaspaceStep(std::string mark, bool drop_first) : mark_(std::move(mark)), drop_(drop_first) {}

 private:
  void take(std::string token, std::vector<TokenPart>& out) override {
    replace_all(token, mark_, std::exchange(drop_, false) ? "" : " ");
    out.push_back({std::move(token), true});
  }

  std::string mark_;
  bool drop_;
};

}  // namespace

TokenDecoder make_metaspace_decoder(const JsonValue& value) {
  const std::string mark(value.require("replacement").character());
  const bool drop_first = read_prepend(value) != Prepend::kNever;
  return [mark, drop_first](std::vector<std::unique_ptr<DecodeStep>>& steps) {
    steps.push_back(std::make_unique<MetaspaceStep>(mark, drop_first));
  };
}

}  // namespace berth

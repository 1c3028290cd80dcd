#include "runtime/text/pretokenizer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "planner/base/quote.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/code_points.h"
#include "runtime/text/metaspace.h"
#include "runtime/text/pattern.h"
#include "runtime/text/reference_unicode.h"
#include "runtime/text/step_table.h"

namespace berth {
namespace {

// GPT-2's pattern, which ByteLevel applies unless use_regex is false.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior parse_behavior(const JsonValue& value) {
  const auto name = value.text();
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  value.fail(quote(name) + " is not a behavior of Split");
}

// Joins neighbours that `join(previous, next)` says belong together.
template <typename Join>
std::vector<Stretch> join_neighbours(const std::vector<Stretch>& stretches, Join join) {
  std::vector<Stretch> joined;
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    if (i > 0 && join(stretches[i - 1], stretches[i])) {
      joined.back().end = stretches[i].end;
    } else {
      joined.push_back(stretches[i]);
    }
  }
  return joined;
}

std::vector<Stretch> apply_behavior(std::vector<Stretch> stretches, Behavior behavior) {
  switch (behavior) {
    case Behavior::kRemoved:
      std::erase_if(stretches, [](const Stretch& stretch) { return stretch.match; });
      return stretches;
    case Behavior::kIsolated:
      return stretches;
    case Behavior::kContiguous:
      return join_neighbours(stretches,
                             [](const Stretch& a, const Stretch& b) { return a.match == b.match; });
    case Behavior::kMergedWithPrevious:
      return join_neighbours(
          stretches, [](const Stretch& a, const Stretch& b) { return b.match && !a.match; });
    case Behavior::kMergedWithNext:
      return join_neighbours(
          stretches, [](const Stretch& a, const Stretch& b) { return a.match && !b.match; });
  }
  return stretches;
}

// A pre-tokenizer that cuts where `find` says.
template <typename Find>
PreTokenizer splitter(Find find, Behavior behavior) {
  return [find = std::move(find), behavior](std::vector<TextPiece>& pieces) {
    std::vector<TextPiece> cut;
    for (const TextPiece& piece : pieces) {
      for (const Stretch& stretch : apply_behavior(find(piece.text), behavior)) {
        if (stretch.begin < stretch.end) {
          cut.push_back({piece.text.substr(stretch.begin, stretch.end - stretch.begin),
                         piece.at_start && stretch.begin == 0});
        }
      }
    }
    pieces = std::move(cut);
  };
}

std::vector<Stretch> find_numerals(std::string_view text) {
  std::vector<Stretch> stretches;
  std::size_t done = 0;
  for (std::size_t at = 0, next = 0; at < text.size(); at = next) {
    if (!is_numeric(next_code_point(text, next))) continue;
    if (done < at) stretches.push_back({done, at, false});
    stretches.push_back({at, next, true});
    done = next;
  }
  if (done < text.size()) stretches.push_back({done, text.size(), false});
  return stretches;
}

PreTokenizer make_split(const JsonValue& value) {
  const auto pattern = make_pattern(value.require("pattern"));
  const Behavior behavior = parse_behavior(value.require("behavior"));
  const bool invert = value.flag("invert");
  const auto find = [pattern, invert](std::string_view text) {
    auto stretches = pattern(text);
    if (invert) {
      for (auto& stretch : stretches) stretch.match = !stretch.match;
    }
    return stretches;
  };
  return splitter(find, behavior);
}

PreTokenizer make_byte_level(const JsonValue& value) {
  const bool prefix = value.flag("add_prefix_space", true);
  PreTokenizer split;
  if (value.flag("use_regex", true)) {
    split = splitter([regex = std::make_shared<const Regex>(kGpt2Pattern)](
                         std::string_view text) { return regex->find_all(text); },
                     Behavior::kIsolated);
  }
  return [prefix, split](std::vector<TextPiece>& pieces) {
    for (auto& piece : pieces) {
      if (prefix && !piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
    }
    if (split) split(pieces);
    for (auto& piece : pieces) piece.text = to_byte_level(piece.text);
  };
}

PreTokenizer make_digits(const JsonValue& value) {
  const bool apart = value.flag("individual_digits");
  return splitter(find_numerals, apart ? Behavior::kIsolated : Behavior::kContiguous);
}

PreTokenizer make_sequence(const JsonValue& value) {
  std::vector<PreTokenizer> steps;
  for (const auto& step : value.require("pretokenizers").list()) {
    steps.push_back(make_pretokenizer(step));
  }
  return [steps](std::vector<TextPiece>& pieces) {
    for (const auto& step : steps) step(pieces);
  };
}

constexpr StepRow<PreTokenizer> kPreTokenizers[] = {
    {"ByteLevel", make_byte_level}, {"Split", make_split},       {"Digits", make_digits},
    {"Metaspace", make_metaspace},  {"Sequence", make_sequence},
};

}  // namespace

PreTokenizer make_pretokenizer(const std::optional<JsonValue>& value) {
  return value ? make_step(kPreTokenizers, *value) : nullptr;
}

}  // namespace berth

#include "planner/model/gguf/piece_merges.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "berth/error.h"
#include "planner/checkpoint/name_table.h"

namespace berth {
namespace {

// A piece of SentencePiece's has up to 16 characters, unless the trainer is told otherwise, and so
// up to 15 places to cut it. Known vocabularies have about two merges for each piece. Each cut
// costs a look-up of all bytes of the piece, so these limits keep a file from being slow on
// purpose.
constexpr std::size_t kMostBytes = 256;
constexpr std::size_t kMostMerges = 16;     // for each piece, on average
constexpr std::size_t kFewMerges = 10'000;  // never too many, whatever the vocabulary

struct Merge {
  double score = 0;
  std::uint32_t piece = 0;
  std::uint32_t left_bytes = 0;
  std::uint32_t left_characters = 0;
  std::uint32_t right_characters = 0;

  auto rank() const { return std::tuple(score, left_characters, right_characters); }
};

bool starts_character(char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; }

std::uint32_t characters_of(std::string_view text) {
  return static_cast<std::uint32_t>(std::ranges::count_if(text, starts_character));
}

struct TextOf {  // gives NameTable the texts
  const std::vector<ScoredPiece>& pieces;
  std::string_view operator()(std::uint32_t id) const { return pieces[id].text; }
};

class MergeFinder {
 public:
  explicit MergeFinder(const std::vector<ScoredPiece>& pieces)
      : pieces_(pieces), text_of_{pieces}, ids_(pieces.size()) {
    for (auto id = static_cast<std::uint32_t>(pieces.size()); id-- > 0;) {
      if (pieces[id].merges) ids_.insert(pieces[id].text, id, text_of_);
    }
  }

  std::vector<Merge> find_all() {
    for (std::uint32_t id = 0; id < pieces_.size(); ++id) {
      if (pieces_[id].merges && find(pieces_[id].text) == id) cut(id);
    }
    return std::move(found_);
  }

 private:
  std::uint32_t find(std::string_view text) const { return ids_.find(text, text_of_); }
  bool is_piece(std::string_view text) const { return find(text) != NameTable::kAbsent; }

  void cut(std::uint32_t id) {
    const std::string_view text = pieces_[id].text;
    if (text.size() > kMostBytes) {
      throw Error("token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                  " bytes, more than a piece of SentencePiece's can have");
    }
    const std::uint32_t characters = characters_of(text);
    for (std::uint32_t at = 1, left = 1; at < text.size(); ++at) {
      if (!starts_character(text[at])) continue;
      if (is_piece(text.substr(0, at)) && is_piece(text.substr(at))) {
        found_.push_back({pieces_[id].score, id, at, left, characters - left});
      }
      ++left;
    }
    if (found_.size() > std::max(kFewMerges, kMostMerges * pieces_.size())) {
      throw Error("its tokens have more merges than those of a SentencePiece model can have");
    }
  }

  const std::vector<ScoredPiece>& pieces_;
  TextOf text_of_;
  NameTable ids_;  // of several equal texts, the last one
  std::vector<Merge> found_;
};

}  // namespace

std::vector<PieceMerge> piece_merges(const std::vector<ScoredPiece>& pieces) {
  std::vector<Merge> found = MergeFinder(pieces).find_all();
  std::ranges::stable_sort(found, std::ranges::greater(), &Merge::rank);
  std::vector<PieceMerge> merges;
  merges.reserve(found.size());
  for (const Merge& merge : found) {
    const std::string_view text = pieces[merge.piece].text;
    merges.push_back({text.substr(0, merge.left_bytes), text.substr(merge.left_bytes)});
  }
  return merges;
}

}  // namespace berth

// Makes merges for the pieces of a SentencePiece vocabulary, which has a score for each piece and
// no merges. The rule is the one by which transformers converts it (generate_merges).
#pragma once

#include <string_view>
#include <vector>

namespace berth {

struct ScoredPiece {
  std::string_view text;  // UTF-8
  double score = 0;       // not NaN; pieces with a higher score are merged first
  bool merges = true;     // false: is neither merged nor half of another piece (bytes, <s>)
};

struct PieceMerge {
  std::string_view left;
  std::string_view right;
};

// Every way to make a piece out of two others, in rank order: higher scores first; of equal scores
// those with the longer left half; then in the order of the pieces. A piece's index is its id. If
// several pieces have the same text, the last one counts. Throws Error for a list of pieces that no
// SentencePiece vocabulary would hold. Time and result are linear in the bytes of the pieces.
std::vector<PieceMerge> piece_merges(const std::vector<ScoredPiece>& pieces);

}  // namespace berth

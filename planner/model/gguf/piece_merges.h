// Merges for the pieces of a SentencePiece vocabulary, which keeps a score for each piece instead:
// the rule by which transformers converts it (generate_merges).
#pragma once

#include <string_view>
#include <vector>

namespace berth {

struct ScoredPiece {
  std::string_view text;  // UTF-8
  double score = 0;       // not NaN; higher merges first
  bool merges = true;     // false: neither put together nor a part of another, as bytes and <s>
};

struct PieceMerge {
  std::string_view left;
  std::string_view right;
};

// Every way to put a piece together of two, in rank order: higher scores first, of equal ones those
// with the longer left part, then in order of the pieces. A piece's index is its id; of equal texts
// the last counts. Throws Error for what no vocabulary of SentencePiece's holds; time and result
// are linear in the bytes of the pieces.
std::vector<PieceMerge> piece_merges(const std::vector<ScoredPiece>& pieces);

}  // namespace berth

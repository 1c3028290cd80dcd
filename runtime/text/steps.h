// The types of the steps that a tokenizer.json strings together. Each step is a function that is
// made once from the file; after that, many threads may call it at once.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace berth {

// A stretch of the text, in UTF-8.
struct TextPiece {
  std::string text;
  // True if the piece begins where the whole text begins, rewritten or not. Metaspace's scheme
  // "first" puts its mark only there.
  bool at_start = false;
};

// Rewrites a piece.
using Normalizer = std::function<void(TextPiece&)>;

// Cuts each piece into smaller ones, or rewrites it; empty pieces are dropped.
using PreTokenizer = std::function<void(std::vector<TextPiece>&)>;

// Rewrites the tokens so that they give the text when they are joined.
using TokenDecoder = std::function<void(std::vector<std::string>&)>;

}  // namespace berth

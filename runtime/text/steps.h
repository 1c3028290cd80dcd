// What tokenizer.json strings together: the types of its steps. Each is a function that is made
// from the file once and then safe from many threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace berth {

// A stretch of the text, in UTF-8.
struct TextPiece {
  std::string text;
  // Its first character is what the whole text begins with, rewritten or not: there alone does
  // Metaspace's scheme "first" put its mark.
  bool at_start = false;
};

// Rewrites a piece.
using Normalizer = std::function<void(TextPiece&)>;

// Cuts each piece into smaller ones, or rewrites it; empty pieces are dropped.
using PreTokenizer = std::function<void(std::vector<TextPiece>&)>;

// Rewrites the tokens, which joined are the text.
using TokenDecoder = std::function<void(std::vector<std::string>&)>;

}  // namespace berth

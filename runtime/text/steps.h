// The types of the steps that a tokenizer.json strings together. Each step is a function that is
// made once from the file; after that, many threads may call it at once.
#pragma once

#include <functional>
#include <memory>
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

// A stretch of a token. Most steps of decoding pass whole tokens on; after some there is a single
// token, which comes as it grows.
struct TokenPart {
  std::string text;
  bool ends = true;  // the token ends with it
};

// One step of decoding one text: takes tokens as they come, and passes on what later ones cannot
// change any more. Joined, what the last step passes on is the text.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  // Takes the next part, and appends to `out` what is to be passed on.
  virtual void push(TokenPart part, std::vector<TokenPart>& out) = 0;
  // No more parts will come: appends what was held back.
  virtual void finish(std::vector<TokenPart>& out) = 0;
};

// Appends the steps of a decoder, made for a new text.
using TokenDecoder = std::function<void(std::vector<std::unique_ptr<DecodeStep>>&)>;

}  // namespace berth

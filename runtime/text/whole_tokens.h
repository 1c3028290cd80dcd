// The steps of decoding that look at one whole token after the other.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/text/steps.h"

namespace berth {

// Collects the parts of each token, and calls take() with all of it.
class WholeTokens : public DecodeStep {
 public:
  void push(TokenPart part, std::vector<TokenPart>& out) final {
    if (token_.empty()) {
      token_ = std::move(part.text);
    } else {
      token_ += part.text;
    }
    if (part.ends) take(std::exchange(token_, {}), out);
  }
  void finish(std::vector<TokenPart>&) override {}

 protected:
  virtual void take(std::string token, std::vector<TokenPart>& out) = 0;

 private:
  std::string token_;
};

// The decoder of one step that rewrites every token by itself, in place: rewrite(std::string&).
template <typename Rewrite>
TokenDecoder rewrite_tokens(Rewrite rewrite) {
  class Step final : public WholeTokens {
   public:
    explicit Step(const Rewrite& rewrite) : rewrite_(rewrite) {}

   private:
    void take(std::string token, std::vector<TokenPart>& out) override {
      rewrite_(token);
      out.push_back({std::move(token), true});
    }
    Rewrite rewrite_;
  };
  return [rewrite = std::move(rewrite)](std::vector<std::unique_ptr<DecodeStep>>& steps) {
    steps.push_back(std::make_unique<Step>(rewrite));
  };
}

}  // namespace berth

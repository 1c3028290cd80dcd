#include "runtime/text/token_decoder.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "planner/base/utf8.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/code_points.h"
#include "runtime/text/metaspace.h"
#include "runtime/text/pattern.h"
#include "runtime/text/step_table.h"
#include "runtime/text/whole_tokens.h"

namespace berth {
namespace {

using Parts = std::vector<TokenPart>;
using Steps = std::vector<std::unique_ptr<DecodeStep>>;

template <typename Step>
TokenDecoder step_of() {
  return [](Steps& steps) { steps.push_back(std::make_unique<Step>()); };
}

// All tokens become one.
class Fuse final : public DecodeStep {
 public:
  void push(TokenPart part, Parts& out) override { out.push_back({std::move(part.text), false}); }
  void finish(Parts& out) override { out.push_back({{}, true}); }
};

// The bytes that the characters of `token` stand for, or `token` if one of them stands for none.
std::string bytes_of(const std::string& token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const auto byte = byte_of(next_code_point(token, at));
    if (!byte) return token;
    bytes.push_back(*byte);
  }
  return bytes;
}

// All tokens become one, of bytes.
class ByteLevel final : public WholeTokens {
 public:
  void finish(Parts& out) override { out.push_back({{}, true}); }

 private:
  void take(std::string token, Parts& out) override { out.push_back({bytes_of(token), false}); }
};

// A run of byte tokens becomes text if all of it is UTF-8, else a U+FFFD for each byte.
class ByteFallback final : public WholeTokens {
 public:
  void finish(Parts& out) override { end_run(out); }

 private:
  void take(std::string token, Parts& out) override {
    if (is_byte_token(token)) {
      std::uint8_t byte = 0;
      std::from_chars(&token[3], &token[5], byte, 16);
      run_.push_back(static_cast<char>(byte));
      return;
    }
    end_run(out);
    out.push_back({std::move(token), true});
  }
  void end_run(Parts& out) {
    if (!find_ill_formed_utf8(run_)) {
      if (!run_.empty()) out.push_back({run_, true});
    } else {
      out.insert(out.end(), run_.size(), {"\xEF\xBF\xBD", true});
    }
    run_.clear();
  }

  std::string run_;  // of bytes
};

TokenDecoder make_replace(const JsonValue& value) {
  const auto pattern_value = value.require("pattern");
  const auto pattern = make_pattern(pattern_value);
  const std::string content(value.require("content").text());
  if (const auto plain = pattern_value.get("String")) {  // the usual one
    return rewrite_tokens([from = std::string(plain->text()), content](std::string& token) {
      replace_all(token, from, content);
    });
  }
  return rewrite_tokens([pattern, content](std::string& token) {
    const std::string text = lossy_utf8(token);  // a step before may have left bytes
    token = replace_matches(text, pattern(text), content);
  });
}

// Takes up to so many of a character off the beginning and the end of each token. Of a token that
// grows, it holds back as much of the end as it might have to take off.
class Strip final : public DecodeStep {
 public:
  Strip(std::string character, std::uint64_t start, std::uint64_t stop)
      : character_(std::move(character)), start_(start), stop_(stop), left_(start) {}

  void push(TokenPart part, Parts& out) override {
    held_ += part.text;
    strip_start();
    if (part.ends) {
      for (std::uint64_t i = 0; i < stop_ && held_.ends_with(character_); ++i) {
        held_.resize(held_.size() - character_.size());
      }
      out.push_back({std::exchange(held_, {}), true});
      left_ = start_;
    } else if (left_ == 0) {
      const std::size_t most = held_.size() / character_.size();
      const std::size_t tail = std::min<std::uint64_t>(stop_, most) * character_.size();
      if (held_.size() == tail) return;
      out.push_back({held_.substr(0, held_.size() - tail), false});
      held_.erase(0, held_.size() - tail);
    }
  }
  void finish(Parts&) override {}

 private:
  void strip_start() {
    while (left_ > 0 && held_.starts_with(character_)) {
      held_.erase(0, character_.size());
      --left_;
    }
    // What may still become the character is waited for.
    const bool may_become = held_.size() < character_.size() && character_.starts_with(held_);
    if (!may_become) left_ = 0;
  }

  std::string character_;
  std::uint64_t start_;
  std::uint64_t stop_;
  std::uint64_t left_;  // of start_, for this token
  std::string held_;
};

TokenDecoder make_strip(const JsonValue& value) {
  return [character = std::string(value.require("content").character()),
          start = value.require("start").unsigned_integer(),
          stop = value.require("stop").unsigned_integer()](Steps& steps) {
    steps.push_back(std::make_unique<Strip>(character, start, stop));
  };
}

TokenDecoder make_sequence(const JsonValue& value) {
  std::vector<TokenDecoder> decoders;
  for (const auto& step : value.require("decoders").list())
    decoders.push_back(make_token_decoder(step));
  return [decoders = std::move(decoders)](Steps& steps) {
    for (const auto& decoder : decoders) decoder(steps);
  };
}

// Without a decoder there is a space between two tokens.
class Spaces final : public WholeTokens {
 private:
  void take(std::string token, Parts& out) override {
    if (!std::exchange(first_, false)) token.insert(0, 1, ' ');
    out.push_back({std::move(token), true});
  }
  bool first_ = true;
};

bool is_hex_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

constexpr StepRow<TokenDecoder> kTokenDecoders[] = {
    {"ByteLevel", [](const JsonValue&) { return step_of<ByteLevel>(); }},
    {"ByteFallback", [](const JsonValue&) { return step_of<ByteFallback>(); }},
    {"Fuse", [](const JsonValue&) { return step_of<Fuse>(); }},
    {"Metaspace", make_metaspace_decoder},
    {"Replace", make_replace},
    {"Strip", make_strip},
    {"Sequence", make_sequence},
};

}  // namespace

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
         is_hex_digit(token[3]) && is_hex_digit(token[4]);
}

TokenDecoder make_token_decoder(const std::optional<JsonValue>& value) {
  return value ? make_step(kTokenDecoders, *value) : step_of<Spaces>();
}

StepwiseDecoder::StepwiseDecoder(const TokenDecoder& decoder) { decoder(steps_); }

std::string StepwiseDecoder::push(std::string token) { return pass({{std::move(token), true}}, 0); }

std::string StepwiseDecoder::finish() {
  std::string text;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    Parts parts;
    steps_[i]->finish(parts);
    text += pass(std::move(parts), i + 1);
  }
  return text;
}

// What comes out at the end where `parts` go into the step `first`.
std::string StepwiseDecoder::pass(Parts parts, std::size_t first) {
  for (std::size_t i = first; i < steps_.size(); ++i) {
    Parts out;
    for (TokenPart& part : parts) steps_[i]->push(std::move(part), out);
    parts = std::move(out);
  }
  std::string text;
  for (const TokenPart& part : parts) text += part.text;
  return text;
}

}  // namespace berth

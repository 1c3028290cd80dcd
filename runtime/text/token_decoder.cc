#include "runtime/text/token_decoder.h"

#include <charconv>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "planner/base/utf8.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/code_points.h"
#include "runtime/text/metaspace.h"
#include "runtime/text/pattern.h"
#include "runtime/text/step_table.h"

namespace berth {
namespace {

using Tokens = std::vector<std::string>;

void fuse(Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  tokens.clear();
  tokens.push_back(std::move(text));
}

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

void decode_byte_level(Tokens& tokens) {
  for (std::string& token : tokens) token = bytes_of(token);
  fuse(tokens);
}

// Appends a run of byte tokens: as text if all of it is UTF-8, else as a U+FFFD for each byte.
void append_bytes(std::string& run, Tokens& tokens) {
  if (!find_ill_formed_utf8(run)) {
    if (!run.empty()) tokens.push_back(run);
  } else {
    tokens.insert(tokens.end(), run.size(), "\xEF\xBF\xBD");
  }
  run.clear();
}

void decode_byte_fallback(Tokens& tokens) {
  Tokens decoded;
  std::string run;
  for (std::string& token : tokens) {
    if (is_byte_token(token)) {
      std::uint8_t byte = 0;
      std::from_chars(&token[3], &token[5], byte, 16);
      run.push_back(static_cast<char>(byte));
      continue;
    }
    append_bytes(run, decoded);
    decoded.push_back(std::move(token));
  }
  append_bytes(run, decoded);
  tokens = std::move(decoded);
}

TokenDecoder make_replace(const JsonValue& value) {
  const auto pattern_value = value.require("pattern");
  const auto pattern = make_pattern(pattern_value);
  const std::string content(value.require("content").text());
  if (const auto plain = pattern_value.get("String")) {  // the usual kind
    return [from = std::string(plain->text()), content](Tokens& tokens) {
      for (std::string& token : tokens) replace_all(token, from, content);
    };
  }
  return [pattern, content](Tokens& tokens) {
    for (std::string& token : tokens) {
      const std::string text = lossy_utf8(token);  // earlier steps may leave ill-formed UTF-8
      token = replace_matches(text, pattern(text), content);
    }
  };
}

TokenDecoder make_strip(const JsonValue& value) {
  return [character = std::string(value.require("content").character()),
          start = value.require("start").unsigned_integer(),
          stop = value.require("stop").unsigned_integer()](Tokens& tokens) {
    for (std::string& token : tokens) {
      std::string_view kept = token;
      for (std::uint64_t i = 0; i < start && kept.starts_with(character); ++i) {
        kept.remove_prefix(character.size());
      }
      for (std::uint64_t i = 0; i < stop && kept.ends_with(character); ++i) {
        kept.remove_suffix(character.size());
      }
      token = std::string(kept);
    }
  };
}

TokenDecoder make_sequence(const JsonValue& value) {
  std::vector<TokenDecoder> steps;
  for (const auto& step : value.require("decoders").list())
    steps.push_back(make_token_decoder(step));
  return [steps = std::move(steps)](Tokens& tokens) {
    for (const auto& step : steps) step(tokens);
  };
}

bool is_hex_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

constexpr StepRow<TokenDecoder> kTokenDecoders[] = {
    {"ByteLevel", [](const JsonValue&) -> TokenDecoder { return decode_byte_level; }},
    {"ByteFallback", [](const JsonValue&) -> TokenDecoder { return decode_byte_fallback; }},
    {"Fuse", [](const JsonValue&) -> TokenDecoder { return fuse; }},
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
  return value ? make_step(kTokenDecoders, *value) : nullptr;
}

}  // namespace berth

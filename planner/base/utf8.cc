#include "planner/base/utf8.h"

#include <cstdint>

namespace berth {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class State { kWhole, kIllFormed, kUnfinished };

// What starts at `at`: its state and how many bytes it takes (of an ill-formed or unfinished
// sequence: its maximal subpart). Ranges are those of Unicode, table 3-7.
State sequence_at(std::string_view bytes, std::size_t at, std::size_t& length) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t lead = byte(at);
  length = 1;
  if (lead < 0x80) return State::kWhole;
  if (lead < 0xC2 || lead > 0xF4) return State::kIllFormed;
  const std::size_t want = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (; length < want; ++length, low = 0x80, high = 0xBF) {
    if (at + length == bytes.size()) return State::kUnfinished;
    if (byte(at + length) < low || byte(at + length) > high) return State::kIllFormed;
  }
  return State::kWhole;
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  std::size_t length = 0;
  return !text.empty() && sequence_at(text, 0, length) == State::kWhole ? length : 0;
}

std::optional<std::size_t> find_ill_formed_utf8(std::string_view bytes) {
  std::size_t length = 0;
  for (std::size_t at = 0; at < bytes.size(); at += length) {
    if (sequence_at(bytes, at, length) != State::kWhole) return at;
  }
  return std::nullopt;
}

std::string Utf8Stream::push(std::string_view bytes) {
  held_.append(bytes);
  std::string text;
  std::size_t at = 0;
  std::size_t length = 0;
  for (; at < held_.size(); at += length) {
    const State state = sequence_at(held_, at, length);
    if (state == State::kUnfinished) break;
    text.append(state == State::kWhole ? std::string_view(held_).substr(at, length) : kReplacement);
  }
  held_.erase(0, at);
  return text;
}

std::string Utf8Stream::finish() {
  const bool unfinished = !held_.empty();
  held_.clear();
  return unfinished ? std::string(kReplacement) : std::string();
}

std::string lossy_utf8(std::string_view bytes) {
  Utf8Stream stream;
  std::string text = stream.push(bytes);
  return text + stream.finish();
}

}  // namespace berth

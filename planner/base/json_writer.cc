#include "planner/base/json_writer.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <utility>

#include "planner/base/digits.h"
#include "planner/base/utf8.h"

namespace berth {
namespace {

// The letter that stands for a control character behind a backslash, 0 where there is none.
char short_escape(char c, JsonEscapes escapes) {
  if (escapes == JsonEscapes::kPlain) return 0;
  if (c == '\n') return 'n';
  if (c == '\r') return 'r';
  if (c == '\t') return 't';
  if (escapes == JsonEscapes::kRepair) return 0;
  return c == '\b' ? 'b' : c == '\f' ? 'f' : '\0';
}

void append_escaped(std::string& out, char c, JsonEscapes escapes) {
  constexpr char kHex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    out += {'\\', c};
  } else if (const char letter = short_escape(c, escapes); letter != '\0') {
    out += {'\\', letter};
  } else if (byte < 0x20 || (byte == 0x7F && escapes == JsonEscapes::kRepair)) {
    out += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
  } else {
    out += c;
  }
}

template <typename Number>
std::string_view shortest(std::array<char, 64>& digits, Number number, std::chars_format format) {
  char* const begin = digits.data();
  const auto end = std::to_chars(begin, begin + digits.size(), number, format).ptr;
  return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

void append_json_text(std::string& out, std::string_view text, JsonEscapes escapes) {
  out += '"';
  while (!text.empty()) {
    const std::size_t length = escapes == JsonEscapes::kRepair ? utf8_length(text) : 1;
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (length == 1) {
      append_escaped(out, text[0], escapes);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  out += '"';
}

std::string json_quote(std::string_view text, JsonEscapes escapes) {
  std::string out;
  append_json_text(out, text, escapes);
  return out;
}

JsonWriter& JsonWriter::begin_object() {
  open('{', false);
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  assert(!levels_.empty() && !levels_.back().array && !after_key_);
  close('}');
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  open('[', true);
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  assert(!levels_.empty() && levels_.back().array);
  close(']');
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  assert(!levels_.empty() && !levels_.back().array && !after_key_);
  before_item();
  append_json_text(out_, name, escapes_);
  out_ += form_ == JsonForm::kCompact ? ":" : ": ";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  before_item();
  append_json_text(out_, text, escapes_);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  std::array<char, 64> digits{};
  const std::string_view text = shortest(digits, number, std::chars_format::scientific);
  // An exponent is written where fmt and Python write one: below 1e-4, and from 1e16 on.
  int exponent = 0;
  std::string_view after = text.substr(text.find('e') + 1);
  if (after.front() == '+') after.remove_prefix(1);
  std::from_chars(after.data(), after.data() + after.size(), exponent);
  if (exponent < -4 || exponent >= 16) return json(text);
  return json(shortest(digits, number, std::chars_format::fixed));
}

JsonWriter& JsonWriter::real(float number) {
  std::array<char, 64> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  std::string text(digits.data(), end);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return json(text);
}

JsonWriter& JsonWriter::device(std::string_view name) {
  return is_number(name) ? json(name) : value(name);
}

JsonWriter& JsonWriter::json(std::string_view text) {
  before_item();
  out_ += text;
  return *this;
}

std::string JsonWriter::take() { return take_value() += '\n'; }

std::string JsonWriter::take_value() {
  assert(levels_.empty());
  return std::exchange(out_, {});
}

// Puts what stands between two items: nothing after a key, else a comma and white space.
void JsonWriter::before_item() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (levels_.empty()) return;
  const bool first = std::exchange(levels_.back().empty, false);
  if (!first) out_ += ',';
  if (form_ == JsonForm::kIndented) {
    new_line();
  } else if (!first && form_ == JsonForm::kOneLine) {
    out_ += ' ';
  }
}

void JsonWriter::open(char bracket, bool array) {
  before_item();
  out_ += bracket;
  levels_.push_back({array, true});
}

void JsonWriter::close(char bracket) {
  const bool empty = levels_.back().empty;
  levels_.pop_back();
  if (!empty && form_ == JsonForm::kIndented) new_line();
  out_ += bracket;
}

void JsonWriter::new_line() {
  out_ += '\n';
  out_.append(2 * levels_.size(), ' ');
}

}  // namespace berth

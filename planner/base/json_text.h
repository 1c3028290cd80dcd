// JSON that is written: into config.json and tokenizer.json, and into device maps.
#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>

namespace berth {

// Appends `text` as a JSON string; what is not UTF-8 in it stays as it is, for a parser to refuse.
inline void append_json(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

// An object written key by key, in one line each.
class JsonObject {
 public:
  void add(std::string_view key, std::string_view text) { append_json(open(key), text); }
  void add(std::string_view key, const char* text) { add(key, std::string_view(text)); }
  void add(std::string_view key, bool value) { open(key) += value ? "true" : "false"; }
  template <std::integral Integer>
  void add(std::string_view key, Integer value) {
    open(key) += std::to_string(value);
  }
  // The shortest decimal that reads back as the same float: what was meant, if it was stored as
  // one. A whole one keeps its ".0": transformers takes no integer where its config has a float.
  void add(std::string_view key, float value) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    const std::string_view text(digits, static_cast<std::size_t>(end - digits));
    const bool whole = text.find_first_not_of("-0123456789") == std::string_view::npos;
    open(key).append(text).append(whole ? ".0" : "");
  }
  // JSON as it is.
  void add_json(std::string_view key, std::string_view json) { open(key) += json; }

  std::string take() { return text_.empty() ? "{}" : "{\n" + text_ + "\n}"; }

 private:
  std::string& open(std::string_view key) {
    if (!text_.empty()) text_ += ",\n";
    text_ += "  ";
    append_json(text_, key);
    return text_ += ": ";
  }

  std::string text_;
};

}  // namespace berth

// Writes one JSON document into a string: correct escaping, commas and indentation.
//
// Strings are UTF-8; bytes that are not become U+FFFD, so that the output is always valid JSON.
// Numbers that are not finite become null. Misuse (a key outside an object) is an assertion.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& value(double number);
  template <std::integral T>
  JsonWriter& value(T number) {
    return raw(std::to_string(number));
  }
  JsonWriter& null() { return raw("null"); }

  // A device name as Hugging Face writes it: GPUs as numbers, others as strings.
  JsonWriter& device(std::string_view name);

  template <typename T>
  JsonWriter& member(std::string_view name, const T& item) {
    return key(name).value(item);
  }

  // The document, ending in a newline. All objects and arrays must be closed.
  std::string take();

 private:
  struct Level {
    bool array = false;
    bool empty = true;
  };

  JsonWriter& raw(std::string_view text);
  void before_item();
  void open(char bracket, bool array);
  void close(char bracket);
  void new_line();

  std::string out_;
  std::vector<Level> levels_;
  bool after_key_ = false;
};

// `text` between quotes, escaped.
std::string json_quote(std::string_view text);

}  // namespace berth

// Writes one JSON document into a string: correct escaping, commas and white space.
//
// Misuse (a key outside an object) is an assertion.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

enum class JsonForm : std::uint8_t {
  kIndented,  // each item in a line of its own, two spaces a level
  kOneLine,   // {"a": [1, 2]}
  kCompact,   // {"a":[1,2]}
};

// How a text is escaped. All escape what JSON demands: quotes, backslashes and control characters.
enum class JsonEscapes : std::uint8_t {
  kRepair,  // bytes that are no UTF-8 become U+FFFD: always valid JSON. \n, \r and \t are short
  kPlain,   // control characters as \u00NN; other bytes stay as they are, for a parser to refuse
  kShort,   // as kPlain, but \b, \t, \n, \f and \r are short, as the safetensors library writes
};

// Appends `text` between quotes, escaped.
void append_json_text(std::string& out, std::string_view text, JsonEscapes escapes);
std::string json_quote(std::string_view text, JsonEscapes escapes = JsonEscapes::kRepair);

class JsonWriter {
 public:
  explicit JsonWriter(JsonForm form = JsonForm::kIndented,
                      JsonEscapes escapes = JsonEscapes::kRepair)
      : form_(form), escapes_(escapes) {}

  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth) { return json(truth ? "true" : "false"); }
  // The shortest decimal that reads back as the same double; a whole one has no fraction,
  // and what is not finite is null.
  JsonWriter& value(double number);
  template <std::integral T>
  JsonWriter& value(T number) {
    return json(std::to_string(number));
  }
  JsonWriter& null() { return json("null"); }
  // The shortest decimal that reads back as the same float: what was meant, if it was stored as
  // one. A whole one keeps its ".0": transformers takes no integer where its config has a float.
  // What is not finite is written as it is, for a parser to refuse.
  JsonWriter& real(float number);

  // A device name as Hugging Face writes it: GPUs as numbers, others as strings.
  JsonWriter& device(std::string_view name);
  // A value that is JSON already.
  JsonWriter& json(std::string_view text);

  template <typename T>
  JsonWriter& member(std::string_view name, const T& item) {
    return key(name).value(item);
  }

  // The document; all objects and arrays must be closed. take() ends it with a newline.
  std::string take();
  std::string take_value();

 private:
  struct Level {
    bool array = false;
    bool empty = true;
  };

  void before_item();
  void open(char bracket, bool array);
  void close(char bracket);
  void new_line();

  JsonForm form_;
  JsonEscapes escapes_;
  std::string out_;
  std::vector<Level> levels_;
  bool after_key_ = false;
};

}  // namespace berth

// Reading JSON. A value is kept together with its path, so that every mistake in the document is an
// Error that names file and field: "tokenizer.json: model.merges[17]: ...".
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "berth/error.h"

namespace berth {

// The member `key` of an object, where it is there and a T: a text, a number, an object, a list.
template <typename T>
std::optional<T> json_member(simdjson::dom::element object, std::string_view key) {
  T value{};
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

// A view: valid as long as the JsonDocument, or the simdjson parser, that made it.
class JsonValue {
 public:
  JsonValue(simdjson::dom::element element, std::string file, std::string field)
      : element_(element), file_(std::move(file)), field_(std::move(field)) {}

  // Throws Error "file: field: message".
  [[noreturn]] void fail(const std::string& message) const;

  // The member `key`; nullopt where it is absent or null. Error where this is no object.
  std::optional<JsonValue> get(std::string_view key) const;
  JsonValue require(std::string_view key) const;
  // Whether there is such a member; null is one.
  bool has(std::string_view key) const { return find<simdjson::dom::element>(key).has_value(); }
  // The member where it is there and a T. For readers with words of their own for a mistake.
  template <typename T>
  std::optional<T> find(std::string_view key) const {
    return json_member<T>(element_, key);
  }
  // The path of a member, whether it is there or not.
  std::string path(std::string_view key) const;

  bool is_object() const { return element_.is_object(); }
  bool is_text() const { return element_.is_string(); }
  std::string_view text() const;
  std::string_view character() const;  // a text of one
  bool boolean() const;
  std::uint64_t unsigned_integer() const;
  std::vector<JsonValue> list() const;
  simdjson::dom::object object() const;

  // type() is the member "type", which must be there; flag() is `otherwise` if it is absent.
  std::string_view type() const { return require("type").text(); }
  bool flag(std::string_view key, bool otherwise = false) const;

  const std::string& file() const { return file_; }
  const std::string& field() const { return field_; }
  simdjson::dom::element element() const { return element_; }

 private:
  simdjson::dom::element element_;
  std::string file_;
  std::string field_;
};

// A parsed document; it keeps what the values of it look at.
class JsonDocument {
 public:
  // Throws Error "source: not valid JSON: why".
  JsonDocument(std::string_view text, std::string source);
  JsonDocument(const JsonDocument&) = delete;  // its values point into it
  JsonDocument& operator=(const JsonDocument&) = delete;

  JsonValue root() const { return JsonValue(root_, source_, ""); }

 private:
  std::string source_;
  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

}  // namespace berth

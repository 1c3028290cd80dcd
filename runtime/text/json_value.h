// A value of a parsed JSON document together with its path, so that every mistake in the document
// is an Error that names file and field: "tokenizer.json: model.merges[17]: ...".
//
// A view: valid as long as the simdjson parser that made the element.
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

// 'text' in quotes, for messages.
std::string in_quotes(std::string_view text);

class JsonValue {
 public:
  JsonValue(simdjson::dom::element element, std::string file, std::string field)
      : element_(element), file_(std::move(file)), field_(std::move(field)) {}

  // Throws Error "file: field: message".
  [[noreturn]] void fail(const std::string& message) const;

  // The member `key`; nullopt where it is absent or null. Error where this is no object.
  std::optional<JsonValue> get(std::string_view key) const;
  JsonValue require(std::string_view key) const;

  bool is_text() const { return element_.is_string(); }
  std::string_view text() const;
  std::string_view character() const;  // a text of one
  bool boolean() const;
  std::uint64_t unsigned_integer() const;
  std::uint32_t token_id() const;
  std::vector<JsonValue> list() const;
  simdjson::dom::object object() const;

  // What most objects here are told apart by, and flags that are false where absent.
  std::string_view type() const { return require("type").text(); }
  bool flag(std::string_view key, bool otherwise = false) const;

  const std::string& file() const { return file_; }

 private:
  simdjson::dom::element element_;
  std::string file_;
  std::string field_;
};

}  // namespace berth

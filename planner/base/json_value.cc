#include "planner/base/json_value.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {

void JsonValue::fail(const std::string& message) const {
  throw Error(file_ + ": " + (field_.empty() ? "" : field_ + ": ") + message);
}

std::optional<JsonValue> JsonValue::get(std::string_view key) const {
  simdjson::dom::element value;
  if (object().at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return JsonValue(value, file_, path(key));
}

std::string JsonValue::path(std::string_view key) const {
  const std::string shown = printable(key);
  return field_.empty() ? shown : field_ + "." + shown;
}

JsonValue JsonValue::require(std::string_view key) const {
  auto value = get(key);
  if (!value) fail(quote(key) + " is missing");
  return *value;
}

std::string_view JsonValue::text() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) fail("must be a string");
  return value;
}

std::string_view JsonValue::character() const {
  const auto value = text();
  const auto starts_character = [](char c) {
    return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80;
  };
  if (std::ranges::count_if(value, starts_character) != 1) fail("must be one character");
  return value;
}

bool JsonValue::boolean() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) fail("must be true or false");
  return value;
}

std::uint64_t JsonValue::unsigned_integer() const {
  std::uint64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS) fail("must be a whole number, 0 or more");
  return value;
}

std::vector<JsonValue> JsonValue::list() const {
  simdjson::dom::array array;
  if (element_.get(array) != simdjson::SUCCESS) fail("must be a list");
  std::vector<JsonValue> values;
  values.reserve(array.size());
  for (const auto element : array) {
    values.emplace_back(element, file_, field_ + "[" + std::to_string(values.size()) + "]");
  }
  return values;
}

simdjson::dom::object JsonValue::object() const {
  simdjson::dom::object value;
  if (element_.get(value) != simdjson::SUCCESS) fail("must be an object");
  return value;
}

bool JsonValue::flag(std::string_view key, bool otherwise) const {
  const auto value = get(key);
  return value ? value->boolean() : otherwise;
}

JsonDocument::JsonDocument(std::string_view text, std::string source) : source_(std::move(source)) {
  if (const auto error = parser_.parse(text.data(), text.size()).get(root_)) {
    throw Error(source_ + ": not valid JSON: " + simdjson::error_message(error));
  }
}

}  // namespace berth

// Strict reading of YAML: every mistake is an Error that names file, line and field.
//
// A YamlMap hands out the values of one mapping by key and remembers which keys were asked for;
// finish() then rejects every key nobody asked for, naming the nearest known one:
//   deploy.yaml:7: devices[1].capcity: unknown key (did you mean 'capacity'?)
// Duplicate keys are errors too. Not thread-safe; values are views, cheap to copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/error.h"

namespace berth {

struct YamlNode;
struct YamlDocument;

// A node of a document. It knows where it stands: "devices[1]" in "deploy.yaml". What an alias
// stands for is where its anchor is.
struct YamlValue {
  std::shared_ptr<const YamlDocument> document;  // owns the node
  const YamlNode* node;

  bool is_scalar() const;
  bool is_list() const;
  bool is_mapping() const;
  const std::string& file() const;

  // Throws Error "file:line: field: message".
  [[noreturn]] void fail(const std::string& message) const;

  std::string as_text() const;  // any scalar, as written
  std::int64_t as_integer() const;
  double as_number() const;
  bool as_boolean() const;
  std::vector<YamlValue> as_list() const;
};

class YamlMap {
 public:
  // Throws Error if `value` is not a mapping, or has a duplicate or a non-scalar key.
  explicit YamlMap(YamlValue value);

  bool has(std::string_view key) const;
  // The value of `key`; nullopt if the key is absent or null.
  std::optional<YamlValue> get(std::string_view key);
  // The value of `key`. Throws Error if the key is absent or null; the error points at a
  // misspelling of it if there is one.
  YamlValue require(std::string_view key);
  // All keys in file order. This marks all of them as asked for.
  std::vector<std::string> keys();

  // Throws Error for the first key that get() or require() never asked for.
  void finish() const;

  const YamlValue& value() const { return value_; }

 private:
  struct Entry {
    std::string_view name;  // the text of `key`
    std::size_t position;   // in the file
    const YamlNode* key;
    const YamlNode* value;
    bool asked = false;
  };

  Entry* find(std::string_view key);            // nullptr if there is none
  std::vector<const Entry*> not_asked() const;  // in file order

  YamlValue value_;
  std::vector<Entry> entries_;      // by name
  std::vector<std::string> known_;  // asked for by name, for hints
};

// Parses a file or a text that holds one document; an empty one gives a null value. Throws Error
// "file:line: ..." on bad syntax, on bytes that are not UTF-8, on a second document, on nesting
// deeper than 64 levels, and on aliases that stand inside their own anchor or expand to more than
// 2^18 values. Throws Error "file: ..." on a file that cannot be read or is larger than 4 MiB.
YamlValue read_yaml_file(const std::filesystem::path& path);
YamlValue parse_yaml(const std::string& text, const std::string& source);

}  // namespace berth

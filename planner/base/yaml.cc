#include "planner/base/yaml.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/join.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"
#include "planner/base/yaml_document.h"

namespace berth {
namespace {

using Kind = YamlNode::Kind;

constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;

[[noreturn]] void fail_too_large(const std::string& source) {
  throw Error(source + ": larger than " + std::to_string(kMaxFileBytes >> 20) + " MiB");
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kScalar:
      return quote(node.scalar, 80);
    case Kind::kList:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
    case Kind::kNull:
      break;
  }
  return "nothing";
}

std::string_view plain_scalar(const YamlValue& value, const char* wanted) {
  if (!value.is_scalar()) {
    value.fail(std::string("expected ") + wanted + ", found " + describe(*value.node));
  }
  if (value.node->quoted) {
    value.fail(std::string("expected ") + wanted + ", found text in quotes, " +
               describe(*value.node));
  }
  return value.node->scalar;
}

// What the key of `value` is called in messages: "devices[1].capacity"; "" for the root.
std::string field_of(const YamlNode& value) {
  const YamlNode* parent = value.parent;
  if (parent == nullptr) return "";
  std::string field = field_of(*parent);
  const auto at = std::ranges::find(parent->items, &value) - parent->items.begin();
  if (parent->kind == Kind::kList) return field + "[" + std::to_string(at) + "]";
  if (at % 2 == 0 && value.kind != Kind::kScalar) return field;  // a key that is no text
  if (!field.empty()) field += '.';
  return field + printable(parent->items[at - at % 2]->scalar);
}

// Refuses `key`, where only `known` keys have a meaning.
[[noreturn]] void fail_unknown(const YamlValue& key, const std::vector<std::string>& known) {
  if (const auto hint = nearest(key.node->scalar, known))
    key.fail("unknown key (did you mean " + quote(*hint) + "?)");
  key.fail("unknown key" + (known.empty() ? "" : " (known here: " + join(known, ", ") + ")"));
}

}  // namespace

bool YamlValue::is_scalar() const { return node->kind == Kind::kScalar; }
bool YamlValue::is_list() const { return node->kind == Kind::kList; }
bool YamlValue::is_mapping() const { return node->kind == Kind::kMapping; }

const std::string& YamlValue::file() const { return document->file; }

void YamlValue::fail(const std::string& message) const {
  const std::string field = field_of(*node);
  fail_at_line(document->file, node->line, field.empty() ? message : field + ": " + message);
}

std::string YamlValue::as_text() const {
  if (!is_scalar()) fail("expected text, found " + describe(*node));
  return std::string(node->scalar);
}

std::int64_t YamlValue::as_integer() const {
  const std::string_view text = plain_scalar(*this, "a whole number");
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error == std::errc::result_out_of_range && stop == end)
    fail(describe(*node) + " is too large a number");
  if (error != std::errc() || stop != end)
    fail("expected a whole number, found " + describe(*node));
  return number;
}

double YamlValue::as_number() const {
  const std::string_view text = plain_scalar(*this, "a number");
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  double number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error == std::errc::result_out_of_range && stop == end)
    fail(describe(*node) + " is out of range");
  if (error != std::errc() || stop != end || !std::isfinite(number))
    fail("expected a number, found " + describe(*node));
  return number;
}

bool YamlValue::as_boolean() const {
  const std::string_view text = plain_scalar(*this, "true or false");
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  fail("expected true or false, found " + describe(*node));
}

std::vector<YamlValue> YamlValue::as_list() const {
  if (!is_list()) fail("expected a list, found " + describe(*node));
  std::vector<YamlValue> items;
  items.reserve(node->items.size());
  for (const YamlNode* item : node->items) items.push_back({document, item});
  return items;
}

YamlMap::YamlMap(YamlValue value) : value_(std::move(value)) {
  if (!value_.is_mapping()) value_.fail("expected a mapping, found " + describe(*value_.node));
  const std::span<const YamlNode* const> items = value_.node->items;
  entries_.reserve(items.size() / 2);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    const YamlValue key{value_.document, items[i]};
    if (!key.is_scalar()) key.fail("a key must be text, found " + describe(*key.node));
    entries_.push_back({key.node->scalar, i, key.node, items[i + 1]});
  }
  std::ranges::sort(entries_, {}, [](const Entry& e) { return std::pair(e.name, e.position); });
  const auto twice = std::ranges::adjacent_find(entries_, {}, &Entry::name);
  if (twice == entries_.end()) return;
  const YamlValue again{value_.document, twice[1].key};
  again.fail("given twice (first on line " + std::to_string(twice->key->line + 1) + ")");
}

YamlMap::Entry* YamlMap::find(std::string_view key) {
  const auto found = std::ranges::lower_bound(entries_, key, {}, &Entry::name);
  return found != entries_.end() && found->name == key ? &*found : nullptr;
}

bool YamlMap::has(std::string_view key) const {
  return std::ranges::binary_search(entries_, key, {}, &Entry::name);
}

std::optional<YamlValue> YamlMap::get(std::string_view key) {
  Entry* const found = find(key);
  const bool asked = found != nullptr && std::exchange(found->asked, true);
  if (!asked) known_.emplace_back(key);
  if (found == nullptr || found->value->kind == Kind::kNull) return std::nullopt;
  return YamlValue{value_.document, found->value};
}

YamlValue YamlMap::require(std::string_view key) {
  if (std::optional<YamlValue> found = get(key)) return *std::move(found);
  // A misspelt key is the likelier mistake than a forgotten one.
  const std::vector<std::string> wanted = {std::string(key)};
  for (const Entry* entry : not_asked()) {
    if (nearest(entry->name, wanted)) fail_unknown({value_.document, entry->key}, wanted);
  }
  value_.fail(quote(key) + " is missing");
}

std::vector<std::string> YamlMap::keys() {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  const std::span<const YamlNode* const> items = value_.node->items;
  for (std::size_t i = 0; i < items.size(); i += 2) names.emplace_back(items[i]->scalar);
  for (Entry& entry : entries_) entry.asked = true;
  return names;
}

std::vector<const YamlMap::Entry*> YamlMap::not_asked() const {
  std::vector<const Entry*> entries;
  for (const Entry& entry : entries_) {
    if (!entry.asked) entries.push_back(&entry);
  }
  std::ranges::sort(entries, {}, &Entry::position);
  return entries;
}

void YamlMap::finish() const {
  const std::vector<const Entry*> entries = not_asked();
  if (entries.empty()) return;
  std::vector<std::string> known;
  for (const std::string& key : known_) {
    if (std::ranges::find(known, key) == known.end()) known.push_back(key);
  }
  fail_unknown({value_.document, entries.front()->key}, known);
}

YamlValue parse_yaml(const std::string& text, const std::string& source) {
  if (text.size() > kMaxFileBytes) fail_too_large(source);
  const auto document = parse_yaml_document(text, source);
  return {document, document->root};
}

YamlValue read_yaml_file(const std::filesystem::path& path) {
  const std::string source = printable(path.string(), 4096);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw Error(source + ": is a folder, not a YAML file");
  const File file(path);
  if (file.size() > kMaxFileBytes) fail_too_large(source);
  return parse_yaml(file.read_all(), path.string());
}

}  // namespace berth

// Reading is one pass of yaml-cpp over checked text. Its events make the nodes, and what would make
// a walk over them explode is refused on the way: nesting, node counts after expanding aliases, and
// aliases inside their own anchor.

#include "planner/base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <map>
#include <sstream>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/join.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"
#include "planner/base/utf8.h"

namespace berth {

struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMapping };

  Kind kind = Kind::kNull;
  bool quoted = false;  // a scalar that is text, not a number
  int line = 0;         // from 0
  std::string scalar;
  std::vector<const YamlNode*> items;  // of a mapping, keys and values by turns
};

struct YamlDocument {
  std::string file;
  std::deque<YamlNode> nodes;  // an alias is its anchor's node
};

namespace {

using Kind = YamlNode::Kind;

constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxDepth = 64;
constexpr std::uint64_t kMaxNodes = std::uint64_t{1} << 18;  // aliases expanded

[[noreturn]] void fail_at(const std::string& source, int line, const std::string& message) {
  throw Error(source + ":" + std::to_string(std::max(line, 0) + 1) + ": " + message);
}

[[noreturn]] void fail_too_large(const std::string& source) {
  throw Error(source + ": larger than " + std::to_string(kMaxFileBytes >> 20) + " MiB");
}

// Makes the nodes of one document and counts what it expands to. An alias weighs as much as the
// node that it stands for.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(YamlDocument& document) : document_(document) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "a second document; only one is read");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    leaf(mark, anchor, Kind::kNull);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    YamlNode& node = leaf(mark, anchor, Kind::kScalar);
    node.scalar = text;
    node.quoted = tag == "!";  // what yaml-cpp tags scalars in quotes with
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside its own anchor");
    const Anchor& target = found->second;
    if (open_.size() + target.depth > kMaxDepth) too_deep(mark);
    count(mark, target.nodes);
    if (open_.empty()) return;
    open_.back().node->items.push_back(target.node);
    open_.back().height = std::max(open_.back().height, target.depth + 1);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, Kind::kMapping);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Collection {
    YamlNode* node;
    YAML::anchor_t anchor;
    std::uint64_t before;  // nodes counted when it was opened
    std::size_t height;    // levels of collections in it, itself included
  };
  struct Anchor {
    const YamlNode* node;
    std::uint64_t nodes;
    std::size_t depth;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) const {
    fail_at(document_.file, mark.line, message);
  }
  [[noreturn]] void too_deep(const YAML::Mark& mark) const {
    fail(mark, "nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  void count(const YAML::Mark& mark, std::uint64_t nodes) {
    nodes_ += nodes;  // each summand is at most kMaxNodes: no overflow
    if (nodes_ > kMaxNodes) {
      fail(mark, "more than " + std::to_string(kMaxNodes) + " values once aliases are expanded");
    }
  }
  YamlNode& add(const YAML::Mark& mark, Kind kind) {
    count(mark, 1);
    YamlNode& node = document_.nodes.emplace_back();
    node.kind = kind;
    node.line = mark.line;
    if (!open_.empty()) open_.back().node->items.push_back(&node);
    return node;
  }
  YamlNode& leaf(const YAML::Mark& mark, YAML::anchor_t anchor, Kind kind) {
    YamlNode& node = add(mark, kind);
    if (anchor != YAML::NullAnchor) anchors_[anchor] = {&node, 1, 0};
    return node;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Kind kind) {
    if (open_.size() >= kMaxDepth) too_deep(mark);
    const std::uint64_t before = nodes_;
    open_.push_back({&add(mark, kind), anchor, before, 1});
  }
  void close() {
    const Collection done = open_.back();
    open_.pop_back();
    if (done.anchor != YAML::NullAnchor) {
      anchors_[done.anchor] = {done.node, nodes_ - done.before, done.height};
    }
    if (!open_.empty()) open_.back().height = std::max(open_.back().height, done.height + 1);
  }

  YamlDocument& document_;
  int documents_ = 0;
  std::uint64_t nodes_ = 0;
  std::vector<Collection> open_;
  std::map<YAML::anchor_t, Anchor> anchors_;
};

// yaml-cpp takes some control bytes for its own marks (0x04 ends the stream), guesses UTF-16 from
// zero bytes, and repairs bad UTF-8 in silence. A file that holds any of these is no YAML.
void check_text(std::string_view text, const std::string& source) {
  int line = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (control && c != '\t' && c != '\n' && c != '\r')
      fail_at(source, line, "not YAML: control byte " + quote(text.substr(i, 1)));
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) fail_at(source, line, "not YAML: the text is not valid UTF-8");
    if (c == '\n') ++line;
    i += length;
  }
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

const std::string& plain_scalar(const YamlValue& value, const char* wanted) {
  if (!value.is_scalar()) {
    value.fail(std::string("expected ") + wanted + ", found " + describe(*value.node));
  }
  if (value.node->quoted) {
    value.fail(std::string("expected ") + wanted + ", found text in quotes, " +
               describe(*value.node));
  }
  return value.node->scalar;
}

std::string child_field(const std::string& parent, std::string_view key) {
  const std::string shown = printable(key);
  return parent.empty() ? shown : parent + "." + shown;
}

// Refuses `key` of the mapping `parent`, where only `known` keys have a meaning.
[[noreturn]] void fail_unknown(const YamlNode& key, const YamlValue& parent,
                               const std::vector<std::string>& known) {
  const std::string& name = key.scalar;
  const YamlValue where{parent.document, &key, child_field(parent.field, name)};
  if (const auto hint = nearest(name, known))
    where.fail("unknown key (did you mean " + quote(*hint) + "?)");
  where.fail("unknown key" + (known.empty() ? "" : " (known here: " + join(known, ", ") + ")"));
}

}  // namespace

bool YamlValue::is_scalar() const { return node->kind == Kind::kScalar; }
bool YamlValue::is_list() const { return node->kind == Kind::kList; }
bool YamlValue::is_mapping() const { return node->kind == Kind::kMapping; }

const std::string& YamlValue::file() const { return document->file; }

void YamlValue::fail(const std::string& message) const {
  fail_at(document->file, node->line, field.empty() ? message : field + ": " + message);
}

std::string YamlValue::as_text() const {
  if (!is_scalar()) fail("expected text, found " + describe(*node));
  return node->scalar;
}

std::int64_t YamlValue::as_integer() const {
  const std::string& text = plain_scalar(*this, "a whole number");
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
  const std::string& text = plain_scalar(*this, "a number");
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
  const std::string& text = plain_scalar(*this, "true or false");
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  fail("expected true or false, found " + describe(*node));
}

std::vector<YamlValue> YamlValue::as_list() const {
  if (!is_list()) fail("expected a list, found " + describe(*node));
  std::vector<YamlValue> items;
  items.reserve(node->items.size());
  for (const YamlNode* item : node->items)
    items.push_back({document, item, field + "[" + std::to_string(items.size()) + "]"});
  return items;
}

YamlMap::YamlMap(YamlValue value) : value_(std::move(value)) {
  if (!value_.is_mapping()) value_.fail("expected a mapping, found " + describe(*value_.node));
  std::map<std::string_view, int> lines;
  const std::vector<const YamlNode*>& items = value_.node->items;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    YamlValue key{value_.document, items[i], value_.field};
    if (!key.is_scalar()) key.fail("a key must be text, found " + describe(*key.node));
    const std::string& name = key.node->scalar;
    const auto [added, fresh] = entries_.emplace(name, Entry{items[i + 1]});
    if (fresh) {
      lines[added->first] = key.node->line;
      continue;
    }
    key.field = child_field(value_.field, name);
    key.fail("given twice (first on line " + std::to_string(lines[added->first] + 1) + ")");
  }
}

bool YamlMap::has(std::string_view key) const { return entries_.find(key) != entries_.end(); }

std::optional<YamlValue> YamlMap::get(std::string_view key) {
  const auto found = entries_.find(key);
  const bool asked = found != entries_.end() && std::exchange(found->second.asked, true);
  if (!asked && std::find(known_.begin(), known_.end(), key) == known_.end())
    known_.emplace_back(key);
  if (found == entries_.end() || found->second.value->kind == Kind::kNull) return std::nullopt;
  return YamlValue{value_.document, found->second.value, child_field(value_.field, key)};
}

YamlValue YamlMap::require(std::string_view key) {
  if (std::optional<YamlValue> found = get(key)) return *found;
  // A misspelt key is the likelier mistake than a forgotten one.
  const std::vector<std::string> wanted = {std::string(key)};
  const std::vector<const YamlNode*>& items = value_.node->items;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    const std::string& name = items[i]->scalar;
    if (!entries_.at(name).asked && nearest(name, wanted)) fail_unknown(*items[i], value_, wanted);
  }
  value_.fail(quote(key) + " is missing");
}

std::vector<std::string> YamlMap::keys() {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  const std::vector<const YamlNode*>& items = value_.node->items;
  for (std::size_t i = 0; i < items.size(); i += 2) names.push_back(items[i]->scalar);
  for (auto& [name, entry] : entries_) entry.asked = true;
  return names;
}

void YamlMap::finish() const {
  const std::vector<const YamlNode*>& items = value_.node->items;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    if (!entries_.at(items[i]->scalar).asked) fail_unknown(*items[i], value_, known_);
  }
}

YamlValue parse_yaml(const std::string& text, const std::string& source) {
  if (text.size() > kMaxFileBytes) fail_too_large(source);
  check_text(text, source);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    const auto document = std::make_shared<YamlDocument>();
    document->file = source;
    Builder builder(*document);
    while (parser.HandleNextDocument(builder)) {
    }
    if (document->nodes.empty()) document->nodes.emplace_back();  // nothing: null
    return {document, &document->nodes.front(), ""};
  } catch (const YAML::Exception& error) {
    fail_at(source, error.mark.line, "not valid YAML: " + printable(error.msg, 200));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;  // says nothing about the file
  } catch (const std::exception& error) {
    throw Error(source + ": not valid YAML: " + printable(error.what(), 200));
  }
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

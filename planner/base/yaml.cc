// Reading is two passes of yaml-cpp over checked text. The first pass only listens to events and
// refuses what would make the second, which builds nodes, or a walk over them, explode: nesting,
// node counts after expanding aliases, and aliases inside their own anchor.

#include "planner/base/yaml.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <system_error>
#include <utility>

#include "planner/base/text.h"

namespace berth {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxDepth = 64;
constexpr std::uint64_t kMaxNodes = std::uint64_t{1} << 18;  // aliases expanded

[[noreturn]] void fail_at(const std::string& source, int line, const std::string& message) {
  throw Error(source + ":" + std::to_string(std::max(line, 0) + 1) + ": " + message);
}

// Counts what a document expands to. An alias weighs as much as the node it stands for.
class Limits : public YAML::EventHandler {
 public:
  explicit Limits(std::string source) : source_(std::move(source)) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail_at(source_, mark.line, "a second document; only one is read");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { leaf(mark, anchor); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string&) override {
    leaf(mark, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = weight_.find(anchor);
    if (found == weight_.end()) fail_at(source_, mark.line, "an alias inside its own anchor");
    if (open_.size() + found->second.depth > kMaxDepth) too_deep(mark);
    add(mark, found->second.nodes);
    if (!open_.empty())
      open_.back().height = std::max(open_.back().height, found->second.depth + 1);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Collection {
    YAML::anchor_t anchor;
    std::uint64_t before;  // nodes counted when it was opened
    std::size_t height;    // levels of collections in it, itself included
  };
  struct Weight {
    std::uint64_t nodes;
    std::size_t depth;
  };

  void add(const YAML::Mark& mark, std::uint64_t nodes) {
    nodes_ += nodes;  // each summand is at most kMaxNodes: no overflow
    if (nodes_ > kMaxNodes)
      fail_at(source_, mark.line,
              "more than " + std::to_string(kMaxNodes) + " values once aliases are expanded");
  }
  [[noreturn]] void too_deep(const YAML::Mark& mark) const {
    fail_at(source_, mark.line, "nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor) {
    add(mark, 1);
    if (anchor != YAML::NullAnchor) weight_[anchor] = {1, 0};
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (open_.size() >= kMaxDepth) too_deep(mark);
    open_.push_back({anchor, nodes_, 1});
    add(mark, 1);
  }
  void close() {
    const Collection done = open_.back();
    open_.pop_back();
    if (done.anchor != YAML::NullAnchor) weight_[done.anchor] = {nodes_ - done.before, done.height};
    if (!open_.empty()) open_.back().height = std::max(open_.back().height, done.height + 1);
  }

  std::string source_;
  int documents_ = 0;
  std::uint64_t nodes_ = 0;
  std::vector<Collection> open_;
  std::map<YAML::anchor_t, Weight> weight_;
};

// Length of the UTF-8 sequence at the front of `text`, 0 where it is malformed.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (lead == 0xe0 && byte(1) < 0xa0) return 0;   // overlong
  if (lead == 0xed && byte(1) >= 0xa0) return 0;  // surrogate
  if (lead == 0xf0 && byte(1) < 0x90) return 0;   // overlong
  if (lead == 0xf4 && byte(1) >= 0x90) return 0;  // above U+10FFFF
  return length;
}

// yaml-cpp takes some control bytes for its own marks (0x04 ends the stream), guesses UTF-16 from
// zero bytes, and repairs bad UTF-8 in silence. A file that holds any of these is no YAML.
void check_text(std::string_view text, const std::string& source) {
  int line = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (control && c != '\t' && c != '\n' && c != '\r')
      fail_at(source, line, "not YAML: control byte " + in_quotes(text.substr(i, 1)));
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) fail_at(source, line, "not YAML: the text is not valid UTF-8");
    if (c == '\n') ++line;
    i += length;
  }
}

std::string describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return in_quotes(node.Scalar());
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      break;
  }
  return "nothing";
}

// yaml-cpp gives quoted scalars the tag "!": they are text, not numbers.
bool is_quoted(const YAML::Node& node) { return node.Tag() == "!"; }

std::string plain_scalar(const YamlValue& value, const char* wanted) {
  if (!value.node.IsScalar())
    value.fail(std::string("expected ") + wanted + ", found " + describe(value.node));
  if (is_quoted(value.node))
    value.fail(std::string("expected ") + wanted + ", found text in quotes, " +
               describe(value.node));
  return value.node.Scalar();
}

std::string child_field(const std::string& parent, std::string_view key) {
  const std::string shown = printable(key);
  return parent.empty() ? shown : parent + "." + shown;
}

// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

// Refuses `key` of the mapping `parent`, where only `known` keys have a meaning.
[[noreturn]] void fail_unknown(const YAML::Node& key, const YamlValue& parent,
                               const std::vector<std::string>& known) {
  const std::string& name = key.Scalar();
  const YamlValue where{key, parent.file, child_field(parent.field, name)};
  if (const auto hint = nearest(name, known))
    where.fail("unknown key (did you mean '" + *hint + "'?)");
  std::string all;
  for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
  where.fail("unknown key" + (all.empty() ? "" : " (known here: " + all + ")"));
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace

void YamlValue::fail(const std::string& message) const {
  const int line = node.IsDefined() ? node.Mark().line : 0;
  fail_at(file, line, field.empty() ? message : field + ": " + message);
}

std::string YamlValue::as_text() const {
  if (!node.IsScalar()) fail("expected text, found " + describe(node));
  return node.Scalar();
}

std::int64_t YamlValue::as_integer() const {
  const std::string text = plain_scalar(*this, "a whole number");
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error == std::errc::result_out_of_range && stop == end)
    fail(describe(node) + " is too large a number");
  if (error != std::errc() || stop != end) fail("expected a whole number, found " + describe(node));
  return number;
}

double YamlValue::as_number() const {
  const std::string text = plain_scalar(*this, "a number");
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  double number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error == std::errc::result_out_of_range && stop == end)
    fail(describe(node) + " is out of range");
  if (error != std::errc() || stop != end || !std::isfinite(number))
    fail("expected a number, found " + describe(node));
  return number;
}

bool YamlValue::as_boolean() const {
  const std::string text = plain_scalar(*this, "true or false");
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  fail("expected true or false, found " + describe(node));
}

std::vector<YamlValue> YamlValue::as_list() const {
  if (!node.IsSequence()) fail("expected a list, found " + describe(node));
  std::vector<YamlValue> items;
  items.reserve(node.size());
  for (const auto& item : node)
    items.push_back({item, file, field + "[" + std::to_string(items.size()) + "]"});
  return items;
}

YamlMap::YamlMap(YamlValue value) : value_(std::move(value)) {
  if (!value_.node.IsMap()) value_.fail("expected a mapping, found " + describe(value_.node));
  std::map<std::string_view, int> lines;
  for (const auto& entry : value_.node) {
    YamlValue key{entry.first, value_.file, value_.field};
    if (!key.node.IsScalar()) key.fail("a key must be text, found " + describe(key.node));
    const auto [added, fresh] = entries_.emplace(key.node.Scalar(), Entry{entry.second});
    if (fresh) {
      lines[added->first] = key.node.Mark().line;
      continue;
    }
    key.field = child_field(value_.field, key.node.Scalar());
    key.fail("given twice (first on line " + std::to_string(lines[added->first] + 1) + ")");
  }
}

bool YamlMap::has(std::string_view key) const { return entries_.find(key) != entries_.end(); }

std::optional<YamlValue> YamlMap::get(std::string_view key) {
  const auto found = entries_.find(key);
  const bool asked = found != entries_.end() && std::exchange(found->second.asked, true);
  if (!asked && std::find(known_.begin(), known_.end(), key) == known_.end())
    known_.emplace_back(key);
  if (found == entries_.end() || found->second.value.IsNull()) return std::nullopt;
  return YamlValue{found->second.value, value_.file, child_field(value_.field, key)};
}

YamlValue YamlMap::require(std::string_view key) {
  if (std::optional<YamlValue> found = get(key)) return *found;
  // A misspelt key is the likelier mistake than a forgotten one.
  const std::vector<std::string> wanted = {std::string(key)};
  for (const auto& entry : value_.node) {
    const std::string& name = entry.first.Scalar();
    if (!entries_.at(name).asked && nearest(name, wanted))
      fail_unknown(entry.first, value_, wanted);
  }
  value_.fail(in_quotes(key) + " is missing");
}

std::vector<std::string> YamlMap::keys() {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& entry : value_.node) names.push_back(entry.first.Scalar());
  for (auto& [name, entry] : entries_) entry.asked = true;
  return names;
}

void YamlMap::finish() const {
  for (const auto& entry : value_.node)
    if (!entries_.at(entry.first.Scalar()).asked) fail_unknown(entry.first, value_, known_);
}

YamlValue parse_yaml(const std::string& text, const std::string& source) {
  if (text.size() > kMaxFileBytes)
    throw Error(source + ": larger than " + std::to_string(kMaxFileBytes >> 20) + " MiB");
  check_text(text, source);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Limits limits(source);
    while (parser.HandleNextDocument(limits)) {
    }
    return {YAML::Load(text), source, ""};
  } catch (const YAML::Exception& error) {
    fail_at(source, error.mark.line, "not valid YAML: " + printable(error.msg, 200));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(source + ": not valid YAML: " + printable(error.what(), 200));
  }
}

YamlValue read_yaml_file(const std::filesystem::path& path) {
  const std::string source = path.string();
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw Error(printable(source, 4096) + ": is a folder, not a YAML file");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error(printable(source, 4096) +
                ": cannot be opened: " + std::generic_category().message(errno ? errno : ENOENT));
  std::string text;
  std::array<char, 16384> block;
  while (text.size() <= kMaxFileBytes && (file.read(block.data(), block.size()), file.gcount() > 0))
    text.append(block.data(), static_cast<std::size_t>(file.gcount()));
  if (file.bad()) throw Error(printable(source, 4096) + ": cannot be read");
  return parse_yaml(text, source);
}

std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongest = 64;  // longer words are no typos of ours
  if (word.empty() || word.size() > kLongest) return std::nullopt;
  const std::string wanted = lower(word);
  std::optional<std::string> best;
  std::size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongest) continue;
    const std::size_t distance = edit_distance(wanted, lower(candidate));
    // One edit for every three letters: "form" is "from", "to" is not "at".
    if (distance * 3 > std::max(word.size(), candidate.size())) continue;
    if (best && distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

}  // namespace berth

// Reading is one pass of libyaml over checked text. Its events make the nodes, and what would make
// a walk over them explode is refused on the way: nesting, node counts after expanding aliases, and
// aliases inside their own anchor.

#include "planner/base/yaml_document.h"

#include <yaml.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/base/utf8.h"

namespace berth {
namespace {

using Kind = YamlNode::Kind;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxTags = 64;  // %TAG directives: libyaml compares each with all others
constexpr std::uint64_t kMaxNodes = std::uint64_t{1} << 18;  // aliases expanded

// One event of libyaml's, with the memory that belongs to it.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { yaml_event_delete(&event_); }

  yaml_event_t* get() { return &event_; }
  const yaml_event_t* operator->() const { return &event_; }
  int line() const { return static_cast<int>(event_.start_mark.line); }

 private:
  yaml_event_t event_{};
};

// libyaml over a text that outlives it. What libyaml objects to is an Error.
class EventReader {
 public:
  EventReader(std::string_view text, const std::string& source) : text_(text), source_(source) {
    if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    yaml_parser_set_input_string(&parser_, bytes, text.size());
  }
  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;
  ~EventReader() { yaml_parser_delete(&parser_); }

  // Puts the next event into `event`, which must be new.
  void next(Event& event) {
    if (yaml_parser_parse(&parser_, event.get()) != 0) return;
    if (parser_.error == YAML_MEMORY_ERROR) throw std::bad_alloc();
    fail();
  }

 private:
  [[noreturn]] void fail() const {
    const std::string_view problem = parser_.problem == nullptr ? "bad syntax" : parser_.problem;
    std::string message = "not valid YAML: " + std::string(problem);
    if (parser_.error == YAML_READER_ERROR) {  // has no mark
      const auto read = text_.substr(0, parser_.problem_offset);
      fail_at_line(source_, static_cast<int>(std::ranges::count(read, '\n')), message);
    }
    const int line = line_of(parser_.problem_mark);
    if (problem.ends_with("cannot start any token")) {
      const auto rest = text_.substr(offset_of(parser_.problem_mark));
      const std::string found = quote(rest.substr(0, utf8_length(rest)));
      message += " (" + (rest.starts_with('\t') ? "a tab" : found) + ")";
    }
    if (parser_.context != nullptr) {
      message += std::string(" ") + parser_.context;
      const int from = line_of(parser_.context_mark);
      if (from != line) message += " that begins on line " + std::to_string(from + 1);
    }
    fail_at_line(source_, line, message);
  }
  // libyaml counts characters, without the mark of byte order.
  std::size_t offset_of(const yaml_mark_t& mark) const {
    std::size_t offset = text_.starts_with("\xEF\xBB\xBF") ? 3 : 0;
    for (std::size_t i = 0; i < mark.index && offset < text_.size(); ++i)
      offset += utf8_length(text_.substr(offset));
    return offset;
  }
  // What is missing at the end of the text is missing in its last line, but there libyaml begins
  // another.
  int line_of(const yaml_mark_t& mark) const {
    const bool end = mark.column == 0 && mark.line > 0 && offset_of(mark) == text_.size();
    return static_cast<int>(end ? mark.line - 1 : mark.line);
  }

  std::string_view text_;
  const std::string& source_;
  yaml_parser_t parser_{};
};

// Makes the nodes of one document and counts what it expands to. An alias weighs as much as the
// node that it stands for.
class Builder {
 public:
  explicit Builder(YamlDocument& document) : document_(document) {}

  void take(const Event& event) {
    switch (event->type) {
      case YAML_DOCUMENT_START_EVENT:
        if (++documents_ > 1) fail(event.line(), "a second document; only one is read");
        break;
      case YAML_SCALAR_EVENT:
        scalar(event.line(), event->data.scalar);
        break;
      case YAML_ALIAS_EVENT:
        alias(event.line(), as_view(event->data.alias.anchor));
        break;
      case YAML_SEQUENCE_START_EVENT:
        open(event.line(), event->data.sequence_start.anchor, Kind::kList);
        break;
      case YAML_MAPPING_START_EVENT:
        open(event.line(), event->data.mapping_start.anchor, Kind::kMapping);
        break;
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        close();
        break;
      default:
        break;
    }
  }

 private:
  struct Anchor {
    const YamlNode* node;     // nullptr as long as it is open
    std::uint64_t nodes = 1;  // in it, itself included
    std::size_t height = 0;   // levels of collections in it, itself included
  };
  struct Collection {
    YamlNode* node;
    std::optional<std::size_t> anchor;  // of anchors_
    std::uint64_t before;               // nodes counted when it was opened
    std::size_t first;                  // of items_
    std::size_t height = 1;
  };

  static std::string_view as_view(const yaml_char_t* text) {
    return reinterpret_cast<const char*>(text);
  }
  [[noreturn]] void fail(int line, const std::string& message) const {
    fail_at_line(document_.file, line, message);
  }
  [[noreturn]] void too_deep(int line) const {
    fail(line, "nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  void count(int line, std::uint64_t nodes) {
    nodes_ += nodes;  // each summand is at most kMaxNodes: no overflow
    if (nodes_ > kMaxNodes) {
      fail(line, "more than " + std::to_string(kMaxNodes) + " values once aliases are expanded");
    }
  }

  template <typename T>
  T* allocate(std::size_t number) {
    return std::pmr::polymorphic_allocator<T>(&document_.memory).allocate(number);
  }
  YamlNode& add(int line, Kind kind) {
    count(line, 1);
    YamlNode node;
    node.kind = kind;
    node.line = line;
    return put(node);
  }
  // Makes a node, the root or an item of the innermost collection that is open.
  YamlNode& put(YamlNode node) {
    if (!open_.empty()) node.parent = open_.back().node;
    auto* const placed = new (allocate<YamlNode>(1)) YamlNode(node);
    (open_.empty() ? document_.root : items_.emplace_back()) = placed;
    return *placed;
  }
  // A name that is given anew means the last node that has it, from where that begins.
  std::optional<std::size_t> add_anchor(const yaml_char_t* name, const YamlNode* node) {
    if (name == nullptr) return std::nullopt;
    anchors_.push_back({node});
    anchor_of_.insert_or_assign(std::string(as_view(name)), anchors_.size() - 1);
    return anchors_.size() - 1;
  }

  template <typename Scalar>  // the struct has no name
  void scalar(int line, const Scalar& scalar) {
    const std::string_view text(reinterpret_cast<const char*>(scalar.value), scalar.length);
    const bool plain = scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const bool null = plain && scalar.tag == nullptr && is_null(text);
    YamlNode& node = add(line, null ? Kind::kNull : Kind::kScalar);
    add_anchor(scalar.anchor, &node);
    if (null) return;
    char* copy = allocate<char>(text.size());
    std::ranges::copy(text, copy);
    node.scalar = {copy, text.size()};
    node.quoted = scalar.tag == nullptr ? !plain : is_text(as_view(scalar.tag));
  }
  static bool is_text(std::string_view tag) { return tag == "!" || tag == YAML_STR_TAG; }
  static bool is_null(std::string_view plain) {
    return plain.empty() || plain == "~" || plain == "null" || plain == "Null" || plain == "NULL";
  }

  void alias(int line, std::string_view name) {
    const auto found = anchor_of_.find(name);
    if (found == anchor_of_.end()) {
      fail(line, "not valid YAML: no anchor is called " + quote(name, 80));
    }
    const Anchor& target = anchors_[found->second];
    if (target.node == nullptr) fail(line, "an alias inside its own anchor");
    if (open_.size() + target.height > kMaxDepth) too_deep(line);
    count(line, target.nodes);
    put(*target.node);
    rise(target.height);
  }

  void open(int line, const yaml_char_t* anchor, Kind kind) {
    if (open_.size() >= kMaxDepth) too_deep(line);
    const std::uint64_t before = nodes_;
    YamlNode& node = add(line, kind);
    open_.push_back({&node, add_anchor(anchor, nullptr), before, items_.size()});
  }
  void close() {
    const Collection done = open_.back();
    open_.pop_back();
    const std::span<const YamlNode*> items = std::span(items_).subspan(done.first);
    const auto copy = allocate<const YamlNode*>(items.size());
    std::ranges::copy(items, copy);
    done.node->items = {copy, items.size()};
    items_.resize(done.first);
    if (done.anchor) anchors_[*done.anchor] = {done.node, nodes_ - done.before, done.height};
    rise(done.height);
  }
  // `height` levels of collections stand in the innermost one.
  void rise(std::size_t height) {
    if (!open_.empty()) open_.back().height = std::max(open_.back().height, height + 1);
  }

  YamlDocument& document_;
  int documents_ = 0;
  std::uint64_t nodes_ = 0;
  std::vector<Collection> open_;
  std::vector<const YamlNode*> items_;  // of all that are open, the innermost one's last
  std::vector<Anchor> anchors_;
  std::map<std::string, std::size_t, std::less<>> anchor_of_;
};

// libyaml refuses these bytes as well, but only when its buffer comes to them, and takes text for
// UTF-16 that begins with that mark.
void check_text(std::string_view text, const std::string& source) {
  int line = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c >= ' ' && c < 0x7f) {
      ++i;
      continue;
    }
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (control && c != '\t' && c != '\n' && c != '\r')
      fail_at_line(source, line, "not YAML: control byte " + quote(text.substr(i, 1)));
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) fail_at_line(source, line, "not YAML: the text is not valid UTF-8");
    if (c == '\n') ++line;
    i += length;
  }
  std::size_t tags = 0;
  for (std::size_t at = text.find("%TAG"); at != text.npos; at = text.find("%TAG", at + 1)) {
    if (++tags > kMaxTags) {
      throw Error(source + ": more than " + std::to_string(kMaxTags) + " %TAG directives");
    }
  }
}

}  // namespace

void fail_at_line(const std::string& source, int line, const std::string& message) {
  throw Error(source + ":" + std::to_string(std::max(line, 0) + 1) + ": " + message);
}

std::shared_ptr<const YamlDocument> parse_yaml_document(std::string_view text,
                                                        const std::string& source) {
  check_text(text, source);
  const auto document = std::make_shared<YamlDocument>();
  document->file = source;
  EventReader reader(text, source);
  Builder builder(*document);
  for (bool more = true; more;) {
    Event event;
    reader.next(event);
    builder.take(event);
    more = event->type != YAML_STREAM_END_EVENT;
  }
  static const YamlNode kNothing;
  if (document->root == nullptr) document->root = &kNothing;
  return document;
}

}  // namespace berth

// The nodes of a YAML document, as libyaml reads it. What callers see of them is in yaml.h.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>

namespace berth {

// Lives in the memory of its document, as do its text and its list of items. An alias has the
// contents of its anchor's node, whose items have that node as their parent.
struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMapping };

  Kind kind = Kind::kNull;
  bool quoted = false;  // a scalar that is text, not a number
  int line = 0;         // from 0
  const YamlNode* parent = nullptr;
  std::string_view scalar;
  std::span<const YamlNode* const> items;  // of a mapping, keys and values by turns
};

struct YamlDocument {
  std::string file;
  std::pmr::monotonic_buffer_resource memory;
  const YamlNode* root = nullptr;  // never nullptr once it is read
};

// Reads a text of one document. Throws what parse_yaml() promises of syntax, bytes, documents,
// levels and aliases.
std::shared_ptr<const YamlDocument> parse_yaml_document(std::string_view text,
                                                        const std::string& source);

// Throws Error "source:line: message". Lines count from 0.
[[noreturn]] void fail_at_line(const std::string& source, int line, const std::string& message);

}  // namespace berth

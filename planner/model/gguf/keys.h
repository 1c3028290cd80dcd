// Reads the settings of a GGUF model: the keys of its metadata that begin with the architecture's
// name. Internal to planner/model/gguf.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/checkpoint/gguf/header.h"

namespace berth {

// Keeps a reference to the header, which must outlive it. Throws Error, naming the key, for a value
// of another type than is asked for, and for a negative number.
class GgufKeys {
 public:
  GgufKeys(const GgufHeader& header, std::string_view architecture)
      : header_(header), prefix_(std::string(architecture) + ".") {}

  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  std::optional<std::uint64_t> find(std::string_view name) const;
  // The number, or the first that is not 0 of a list; nothing where there is no such key.
  std::optional<std::uint64_t> first_of(std::string_view name) const;
  // The greatest of a list, or the one number; 0 where there is no such key.
  std::uint64_t greatest(std::string_view name) const;

  // A number for each of `layers` layers: one that counts for all, or a list of as many. Empty
  // where there is no such key. Throws Error for a list of another length.
  std::vector<std::uint64_t> by_layer(std::string_view name, std::uint64_t layers) const;
  // True where the key holds numbers that are not all equal.
  bool varies(std::string_view name) const;

  const GgufHeader& header() const { return header_; }
  [[noreturn]] void fail(std::string_view name, const std::string& what) const {
    header_.fail(key(name), what);
  }

 private:
  std::vector<std::uint64_t> numbers(std::string_view name) const;

  const GgufHeader& header_;
  std::string prefix_;
};

}  // namespace berth

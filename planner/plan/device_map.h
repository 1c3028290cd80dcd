// Hugging Face device maps: reading, looking tensors up, and writing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "berth/plan.h"

namespace berth {

// Looks names up in one map many times: literal keys by hash, regular expressions compiled once.
// The rule is that of lookup() in berth/plan.h. Keeps a reference to `map`. Const methods are safe
// from many threads. Throws Error for a key that is neither a name nor a regular expression.
class DeviceMapIndex {
 public:
  explicit DeviceMapIndex(const DeviceMap& map);
  ~DeviceMapIndex();

  // Index into the map of the entry that covers `name`, or kNone.
  std::uint32_t find(std::string_view name) const;

 private:
  struct Pattern;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  const DeviceMap& map_;
  std::unordered_map<std::string_view, std::uint32_t, Hash, std::equal_to<>> literal_;
  std::vector<Pattern> patterns_;
};

// "cuda:1" and "1" are "1", "cuda" is "0"; "cpu" and "disk" stay, and what is no device is as is.
std::string normal_device_name(std::string_view name);

// True where `glob` (*, ?, [a-z], [!a-z]) matches the whole of `name`. `*` crosses dots.
bool glob_matches(std::string_view glob, std::string_view name);

// A map for `tensor_device` (by TensorId, index into `devices`) with as few keys as module
// boundaries allow; modules without tensors go with their neighbours. Covers every tensor.
DeviceMap collapse_device_map(const ModelTree& tree,
                              const std::vector<std::uint32_t>& tensor_device,
                              const std::vector<std::string>& devices);

}  // namespace berth

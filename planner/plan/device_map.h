// Hugging Face device maps: looking tensors up in them and making them from placements. Reading and
// writing their JSON is declared in berth/plan.h. Globs of overrides are matched here, too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "berth/plan.h"

namespace berth {

// Looks many names up in one map, by the rule of lookup() in berth/plan.h. Literal keys are found
// by hash; regular expressions are compiled once. Keeps a reference to `map`, which must outlive
// the index. Several threads may call const methods at once. The constructor throws Error for a key
// that is neither a module's name nor a regular expression.
class DeviceMapIndex {
 public:
  explicit DeviceMapIndex(const DeviceMap& map);
  ~DeviceMapIndex();

  // The index into the map of the entry that covers `name`; kNone if none does.
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

// True if the key has no character, but the dot, that is special in a regular expression.
bool is_literal_key(std::string_view key);

// The name that Berth uses for a device: "cuda:1", "gpu:1" and "01" become "1", "cuda" and "gpu"
// become "0", "cpu:0" becomes "cpu", "cpu:01" becomes "cpu:1". Any other text is returned as it is,
// whether or not it names a device.
std::string normal_device_name(std::string_view name);

// A sentence about a device that torch knows and Berth does not ("mps", "xpu:0", "meta"); "" for
// any other text.
std::string other_accelerator(std::string_view name);

// The policy that a map of the form "auto" or "balanced" means, which transformers takes in place
// of a map: parse_device_map() gives it as {"": "auto"}. Nothing for any other map.
std::optional<Policy> policy_of(const DeviceMap& map);

// What `--device-map` says if it is no file: "auto", "balanced", "balanced_low_0", "sequential", or
// a device for the whole model. Nothing for any other text.
std::optional<DeviceMap> device_map_of_word(std::string_view word);

// True if `glob` (with *, ?, [a-z], [!a-z]) matches all of `name`. `*` matches dots, too.
bool glob_matches(std::string_view glob, std::string_view name);

// A map that puts every tensor where `tensor_device` says (by TensorId; indices into `devices`,
// which are names; none is kNone). A module whose tensors all share a device is one key. Modules
// without tensors go with the module before them.
DeviceMap collapse_device_map(const ModelTree& tree,
                              const std::vector<std::uint32_t>& tensor_device,
                              const std::vector<std::string>& devices);

}  // namespace berth

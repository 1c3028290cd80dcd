#include "planner/plan/device_map.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "berth/error.h"
#include "planner/base/digits.h"
#include "planner/base/input_file.h"
#include "planner/base/json_value.h"
#include "planner/base/json_writer.h"
#include "planner/base/name_pattern.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostBytes = 64u << 20;  // of the file; a map of 300,000 tensors takes 20

bool is_ordinal(std::string_view text) { return is_number(text) && text.size() <= 9; }

// Whether key `a` wins over key `b` where both cover a name: the one with more levels does, then
// the one with more characters. transformers orders them so.
bool beats(std::string_view a, std::string_view b) {
  const auto dots_a = std::count(a.begin(), a.end(), '.');
  const auto dots_b = std::count(b.begin(), b.end(), '.');
  return dots_a != dots_b ? dots_a > dots_b : a.size() > b.size();
}

std::string device_of(simdjson::dom::element value, const std::string& where) {
  if (value.is_string()) {
    const std::string name = normal_device_name(value.get_string().value());
    if (name.empty()) throw Error(where + ": the device is an empty string");
    return name;
  }
  std::uint64_t number = 0;
  if (value.get_uint64().get(number) == simdjson::SUCCESS && number < 1'000'000'000) {
    return std::to_string(number);
  }
  throw Error(where + ": not a device (a GPU's number, \"cuda:0\", \"cpu\" or \"disk\")");
}

// Matches `c` against the set that begins at glob[at] == '['. Returns the index after the set, and
// whether the set holds `c`. The index is npos if the bracket is never closed; it then stands for
// itself.
std::pair<std::size_t, bool> match_set(std::string_view glob, std::size_t at, char c) {
  std::size_t i = at + 1;
  const bool inverted = i < glob.size() && (glob[i] == '!' || glob[i] == '^');
  if (inverted) ++i;
  bool found = false;
  for (std::size_t first = i; i < glob.size(); ++i) {
    if (glob[i] == ']' && i > first) return {i + 1, found != inverted};
    if (i + 2 < glob.size() && glob[i + 1] == '-' && glob[i + 2] != ']') {
      found = found || (glob[i] <= c && c <= glob[i + 2]);
      i += 2;
    } else {
      found = found || glob[i] == c;
    }
  }
  return {std::string_view::npos, false};
}

}  // namespace

bool is_literal_key(std::string_view key) {
  return key.find_first_of("\\^$|?*+()[]{}") == std::string_view::npos;
}

struct DeviceMapIndex::Pattern {
  NamePattern regex;
  std::uint32_t entry;
};

DeviceMapIndex::~DeviceMapIndex() = default;

DeviceMapIndex::DeviceMapIndex(const DeviceMap& map) : map_(map) {
  for (std::uint32_t i = 0; i < map.size(); ++i) {
    const std::string& key = map[i].module;
    if (is_literal_key(key)) {
      literal_.emplace(key, i);
      continue;
    }
    // The match must end where a name does, or at a dot.
    auto regex = NamePattern::compile("(?:" + key + ")(?:\\.|$)");
    if (!regex) {
      throw Error("device map: key " + quote(key) +
                  " is neither a module's name nor a regular expression");
    }
    patterns_.push_back({std::move(*regex), i});
  }
}

std::uint32_t DeviceMapIndex::find(std::string_view name) const {
  std::uint32_t best = kNone;
  for (std::string_view prefix = name;;) {
    if (const auto found = literal_.find(prefix); found != literal_.end()) {
      best = found->second;
      break;
    }
    if (prefix.empty()) break;
    const std::size_t dot = prefix.rfind('.');
    prefix = dot == std::string_view::npos ? std::string_view{} : prefix.substr(0, dot);
  }
  for (const Pattern& pattern : patterns_) {
    if (best != kNone && !beats(map_[pattern.entry].module, map_[best].module)) continue;
    if (pattern.regex.matches_start(name)) best = pattern.entry;
  }
  return best;
}

std::string normal_device_name(std::string_view name) {
  if (name == "cuda" || name == "gpu") return "0";
  for (const std::string_view prefix : {"cuda:", "gpu:"}) {
    if (name.starts_with(prefix) && is_ordinal(name.substr(prefix.size()))) {
      return normal_device_name(name.substr(prefix.size()));
    }
  }
  if (name.starts_with("cpu:") && is_ordinal(name.substr(4))) {
    const std::string node = normal_device_name(name.substr(4));
    return node == "0" ? "cpu" : "cpu:" + node;
  }
  if (is_ordinal(name)) {  // "007" is 7
    const std::size_t digit = std::min(name.find_first_not_of('0'), name.size() - 1);
    return std::string(name.substr(digit));
  }
  return std::string(name);
}

std::string other_accelerator(std::string_view name) {
  constexpr std::string_view kKinds[] = {"mps",  "xpu", "hpu",    "npu",    "mlu", "musa",
                                         "sdaa", "xla", "neuron", "vulkan", "mtia"};
  const std::string_view kind = name.substr(0, name.find(':'));
  if (kind == "meta") return "on torch's device meta there are no weights";
  if (std::find(std::begin(kKinds), std::end(kKinds), kind) == std::end(kKinds)) return "";
  return "Berth plans for GPUs by number, the cpu and the disk, and not for torch's device '" +
         std::string(kind) + "': write 0 for its first one";
}

// In transformers "auto" and "balanced" are the same.
std::optional<Policy> policy_of(const DeviceMap& map) {
  if (map.size() != 1 || !map[0].module.empty()) return std::nullopt;
  const std::string& word = map[0].device;
  if (word == "auto" || word == "balanced") return Policy::kBalanced;
  if (word == "balanced_low_0") return Policy::kBalancedLow0;
  if (word == "sequential") return Policy::kSequential;
  return std::nullopt;
}

std::optional<DeviceMap> device_map_of_word(std::string_view word) {
  const std::string device = normal_device_name(word);
  DeviceMap map{{"", device}};
  if (policy_of(map) || is_ordinal(device) || device == "cpu" || device == "disk" ||
      !other_accelerator(device).empty()) {
    return map;
  }
  return std::nullopt;
}

bool glob_matches(std::string_view glob, std::string_view name) {
  std::size_t g = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;  // the last '*' met
  std::size_t resume = 0;                     // where its match ends; longer ones are tried later
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = n;
      continue;
    }
    bool matched = false;
    std::size_t next = g + 1;
    if (g < glob.size()) {
      const auto [after, holds] =
          glob[g] == '[' ? match_set(glob, g, name[n]) : std::pair{std::string_view::npos, false};
      if (after != std::string_view::npos) {
        next = after;
        matched = holds;
      } else {
        matched = glob[g] == '?' || glob[g] == name[n];
      }
    }
    if (matched) {
      g = next;
      ++n;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

const std::string* lookup(const DeviceMap& map, std::string_view name) {
  const std::uint32_t entry = DeviceMapIndex(map).find(name);
  return entry == kNone ? nullptr : &map[entry].device;
}

namespace {

// A map that is one JSON string or number.
std::optional<DeviceMap> whole_map(const JsonValue& root) {
  std::uint64_t number = 0;
  if (root.is_text()) return device_map_of_word(root.text());
  if (root.element().get_uint64().get(number) != simdjson::SUCCESS) return std::nullopt;
  return device_map_of_word(std::to_string(number));
}

}  // namespace

DeviceMap parse_device_map(std::string_view json, const std::string& source) {
  const JsonDocument document(json, source);
  const JsonValue root = document.root();
  if (!root.is_object()) {
    // transformers takes a device for the whole model, or the name of a policy, in place of a map.
    if (auto whole = whole_map(root)) return *whole;
    root.fail("a device map is a JSON object: {\"model.embed_tokens\": 0, ...}");
  }
  DeviceMap map;
  std::set<std::string, std::less<>> seen;
  for (const auto& [key, value] : root.object()) {
    const std::string where = source + ": key \"" + printable(key) + "\"";
    if (!seen.emplace(key).second) throw Error(where + ": given twice");
    map.push_back({std::string(key), device_of(value, where)});
  }
  if (map.empty()) throw Error(source + ": the device map is empty");
  return map;
}

DeviceMap read_device_map(const std::filesystem::path& file) {
  return parse_device_map(read_text_file(file, kMostBytes), file.string());
}

std::string device_map_json(const DeviceMap& map) {
  JsonWriter json(JsonForm::kIndented, JsonEscapes::kPlain);
  json.begin_object();
  for (const DeviceMapEntry& entry : map) {
    json.key(entry.module);
    is_ordinal(entry.device) ? json.device(entry.device) : json.value(entry.device);
  }
  return json.end_object().take_value();
}

namespace {

constexpr std::uint32_t kMixed = kNone - 1;

// By module: the device that all tensors in it and below it share; kMixed if they are on several;
// kNone if there are no tensors.
std::vector<std::uint32_t> devices_below(const ModelTree& tree,
                                         const std::vector<std::uint32_t>& tensor_device) {
  std::vector<std::uint32_t> below(tree.modules.size(), kNone);
  const auto merge = [](std::uint32_t& into, std::uint32_t device) {
    if (device != kNone) into = into == kNone || into == device ? device : kMixed;
  };
  for (auto m = static_cast<ModuleId>(tree.modules.size()); m-- > 0;) {
    for (TensorId t : tree.modules[m].tensors) merge(below[m], tensor_device[t]);
    if (tree.modules[m].parent != kNone) merge(below[tree.modules[m].parent], below[m]);
  }
  return below;
}

// Appends the keys of `module` and of what is below it. `inherited`: the device of what stands
// before the module, for modules without tensors.
void collapse(const ModelTree& tree, const std::vector<std::uint32_t>& tensor_device,
              const std::vector<std::string>& devices, const std::vector<std::uint32_t>& below,
              ModuleId module, std::uint32_t inherited, DeviceMap& map) {
  const Module& at = tree.modules[module];
  if (below[module] != kMixed) {
    const std::uint32_t device = below[module] == kNone ? inherited : below[module];
    if (device != kNone) map.push_back({std::string(at.name), devices[device]});
    return;
  }
  for (TensorId t : at.tensors) {
    map.push_back({std::string(tree.tensors[t].name), devices[tensor_device[t]]});
    inherited = tensor_device[t];
  }
  for (ModuleId child : at.children) {
    collapse(tree, tensor_device, devices, below, child, inherited, map);
    if (below[child] != kMixed && below[child] != kNone) inherited = below[child];
  }
}

}  // namespace

DeviceMap collapse_device_map(const ModelTree& tree,
                              const std::vector<std::uint32_t>& tensor_device,
                              const std::vector<std::string>& devices) {
  DeviceMap map;
  collapse(tree, tensor_device, devices, devices_below(tree, tensor_device), 0, kNone, map);
  return map;
}

}  // namespace berth

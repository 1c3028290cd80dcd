// YAML to value, for deployment files; the counterpart of values.h, whose functions it uses for
// single words.
//
// Each function takes the value of a key and the folder that relative paths start from, which most
// have no use for. It throws Error "file:line: field: ..." for what is no such value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "berth/error.h"
#include "cli/options/settings.h"
#include "cli/options/values.h"
#include "planner/base/position.h"
#include "planner/base/yaml.h"

namespace berth {

// Runs `parse` on the text of a single word; its errors come back with file, line and field.
template <typename Parse>
auto parse_word(const YamlValue& value, Parse parse) -> decltype(parse(std::string())) {
  const std::string text = value.as_text();
  return with_position(value, [&] { return parse(text); });
}

// A word, by a function of values.h.
template <auto from_text>
auto scalar_in(const YamlValue& value, const std::filesystem::path& = {}) {
  return parse_word(value, from_text);
}

// A list of such words.
template <auto from_text>
auto list_in(const YamlValue& value, const std::filesystem::path& = {}) {
  std::vector<decltype(from_text(std::string()))> entries;
  for (const YamlValue& entry : value.as_list()) entries.push_back(scalar_in<from_text>(entry));
  return entries;
}

// A whole number from `least` to kMaxCount.
std::uint64_t whole_number_in(const YamlValue& value, std::int64_t least);
template <std::int64_t least>
std::uint64_t count_in(const YamlValue& value, const std::filesystem::path&) {
  return whole_number_in(value, least);
}

bool boolean_in(const YamlValue& value, const std::filesystem::path& folder);
std::string text_in(const YamlValue& value, const std::filesystem::path& folder);
// Relative to `folder`; not empty.
std::filesystem::path path_in(const YamlValue& value, const std::filesystem::path& folder);

// A name in configs/hardware, a file, or the description itself.
MachineChoice machine_in(const YamlValue& value, const std::filesystem::path& folder);
// A file, or the map itself.
DeviceMapChoice device_map_in(const YamlValue& value, const std::filesystem::path& folder);
// {0: 24GiB, cpu: 64GiB}, order kept.
std::vector<Budget> budgets_in(const YamlValue& value, const std::filesystem::path& folder);
// One size for every GPU, or a mapping of devices to sizes.
std::vector<Reserve> reserve_in(const YamlValue& value, const std::filesystem::path& folder);
// {2: -1, 0: 1}, order kept.
std::vector<Priority> priority_in(const YamlValue& value, const std::filesystem::path& folder);
// [{match: "model.layers.2?.*", device: cpu}].
std::vector<Override> overrides_in(const YamlValue& value, const std::filesystem::path& folder);
// [2x4090, h100, machines/mine.yaml], or the same as one text; files are relative to `folder`.
std::vector<std::filesystem::path> machines_in(const YamlValue& value,
                                               const std::filesystem::path& folder);
// [bfloat16, fp8, q4_k_m], or the same as one text.
std::vector<const Precision*> precisions_in(const YamlValue& value,
                                            const std::filesystem::path& folder);
// [504, 3575, 282].
// One list of ids, or a list of such lists.
std::vector<std::vector<std::int64_t>> id_lists_in(const YamlValue& value,
                                                   const std::filesystem::path& folder);
// One text, or a list of texts.
std::vector<std::string> texts_in(const YamlValue& value, const std::filesystem::path& folder);

}  // namespace berth

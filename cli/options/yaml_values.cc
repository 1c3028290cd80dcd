#include "cli/options/yaml_values.h"

#include <fmt/format.h>

#include <utility>

#include "planner/machine/machine_file.h"
#include "planner/machine/sizes.h"
#include "planner/plan/device_map.h"

namespace berth {

std::uint64_t whole_number_in(const YamlValue& value, std::int64_t least) {
  // "128k" is a text to YAML.
  if (value.is_scalar() && value.as_text().find_first_of("kKmM") != std::string::npos) {
    const std::uint64_t count = scalar_in<count_from>(value);
    if (count < static_cast<std::uint64_t>(least)) value.fail("must be at least 1");
    return count;
  }
  const std::int64_t number = value.as_integer();
  if (number < least || number > static_cast<std::int64_t>(kMaxCount)) {
    value.fail(fmt::format("{} is out of range ({} to {})", number, least, kMaxCount));
  }
  return static_cast<std::uint64_t>(number);
}

bool boolean_in(const YamlValue& value, const std::filesystem::path&) { return value.as_boolean(); }

std::string text_in(const YamlValue& value, const std::filesystem::path&) {
  return value.as_text();
}

std::filesystem::path path_in(const YamlValue& value, const std::filesystem::path& folder) {
  const std::string text = value.as_text();
  if (text.empty()) value.fail("an empty path");
  return (folder / text).lexically_normal();
}

namespace {

// A bare name is one of configs/hardware; anything else is a file relative to `folder`.
std::filesystem::path machine_path(const std::filesystem::path& named,
                                   const std::filesystem::path& folder) {
  const bool is_file =
      named.has_parent_path() || named.extension() == ".yaml" || named.extension() == ".yml";
  return is_file ? (folder / named).lexically_normal() : named;
}

}  // namespace

MachineChoice machine_in(const YamlValue& value, const std::filesystem::path& folder) {
  if (value.is_mapping()) return parse_machine(value);
  return machine_path(value.as_text(), folder);
}

std::vector<std::filesystem::path> machines_in(const YamlValue& value,
                                               const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> machines;
  const auto add = [&](const YamlValue& at) {
    for (const std::filesystem::path& named : scalar_in<machines_from>(at)) {
      with_position(at, [&] { add_machine(machine_path(named, folder), machines); });
    }
  };
  if (value.is_scalar()) {
    add(value);
  } else {
    for (const YamlValue& entry : value.as_list()) add(entry);
  }
  if (machines.empty()) value.fail("the list is empty: name a machine, or all");
  return machines;
}

std::vector<const Precision*> precisions_in(const YamlValue& value, const std::filesystem::path&) {
  if (value.is_scalar()) return scalar_in<precisions_from>(value);
  std::vector<const Precision*> precisions;
  for (const YamlValue& entry : value.as_list()) {
    const Precision* precision = scalar_in<precision_from>(entry);
    with_position(entry, [&] { add_precision(precision, precisions); });
  }
  if (precisions.empty()) value.fail("the list is empty: name a precision");
  return precisions;
}

DeviceMapChoice device_map_in(const YamlValue& value, const std::filesystem::path& folder) {
  if (value.is_scalar()) {
    const std::filesystem::path file = path_in(value, folder);
    std::error_code ignored;
    const auto whole =
        std::filesystem::exists(file, ignored) ? std::nullopt : device_map_of_word(value.as_text());
    return whole ? DeviceMapChoice(*whole) : DeviceMapChoice(file);
  }
  DeviceMap entries;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    entries.push_back({key, scalar_in<device_from>(map.require(key))});
  }
  return entries;
}

// YamlMap refuses a key that stands twice; the check here catches two spellings of one device.
std::vector<Budget> budgets_in(const YamlValue& value, const std::filesystem::path&) {
  std::vector<Budget> budgets;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    const YamlValue size = map.require(key);
    Budget budget;
    budget.device = parse_word(size, [&](const std::string&) { return device_from(key); });
    budget.bytes = scalar_in<parse_size>(size);
    for (const Budget& earlier : budgets) {
      if (earlier.device == budget.device) size.fail("this device is given twice");
    }
    budgets.push_back(std::move(budget));
  }
  return budgets;
}

std::vector<Reserve> reserve_in(const YamlValue& value, const std::filesystem::path& folder) {
  if (value.is_scalar()) return {{"", scalar_in<parse_size>(value)}};
  std::vector<Reserve> reserve;
  for (Budget& budget : budgets_in(value, folder)) {
    reserve.push_back({std::move(budget.device), budget.bytes});
  }
  return reserve;
}

std::vector<Priority> priority_in(const YamlValue& value, const std::filesystem::path&) {
  std::vector<Priority> priority;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    const YamlValue level = map.require(key);
    Priority entry;
    entry.device = parse_word(level, [&](const std::string&) { return gpu_from(key); });
    entry.level = scalar_in<level_from>(level);
    for (const Priority& earlier : priority) {
      if (earlier.device == entry.device) level.fail("this device is given twice");
    }
    priority.push_back(std::move(entry));
  }
  return priority;
}

std::vector<Override> overrides_in(const YamlValue& value, const std::filesystem::path&) {
  std::vector<Override> overrides;
  for (const YamlValue& item : value.as_list()) {
    YamlMap map(item);
    Override entry;
    entry.match = scalar_in<glob_from>(map.require("match"));
    entry.device = scalar_in<device_from>(map.require("device"));
    map.finish();
    overrides.push_back(std::move(entry));
  }
  return overrides;
}

std::vector<std::string> texts_in(const YamlValue& value, const std::filesystem::path&) {
  if (!value.is_list()) return {value.as_text()};
  std::vector<std::string> texts;
  for (const YamlValue& text : value.as_list()) texts.push_back(text.as_text());
  if (texts.empty()) value.fail("an empty list: nothing to go on from");
  return texts;
}

namespace {

std::vector<std::int64_t> ids_in(const YamlValue& value) {
  std::vector<std::int64_t> ids;
  for (const YamlValue& id : value.as_list()) {
    if (id.as_integer() < 0) id.fail("a token id is never negative");
    ids.push_back(id.as_integer());
  }
  if (ids.empty()) value.fail("an empty list: nothing to go on from");
  return ids;
}

}  // namespace

std::vector<std::vector<std::int64_t>> id_lists_in(const YamlValue& value,
                                                   const std::filesystem::path&) {
  const auto& entries = value.as_list();
  if (entries.empty() || !entries.front().is_list()) return {ids_in(value)};
  std::vector<std::vector<std::int64_t>> lists;
  for (const YamlValue& entry : entries) lists.push_back(ids_in(entry));
  return lists;
}

}  // namespace berth

#include "cli/options/deployment.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "berth/error.h"
#include "cli/options/option_table.h"
#include "cli/options/values.h"
#include "cli/options/yaml_values.h"
#include "planner/machine/machine_file.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// "workload.batch" is the name "batch" in the mapping "workload"; "machine" stands at the top.
std::string_view mapping_of(std::string_view key) {
  const std::size_t dot = key.find('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}

std::string_view name_of(std::string_view key) {
  const std::size_t dot = key.find('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

// The mappings inside the file, in the table's order.
std::vector<std::string_view> inner_mappings() {
  std::vector<std::string_view> found;
  for (const OptionRow& row : option_table()) {
    const std::string_view mapping = mapping_of(row.key);
    if (mapping.empty()) continue;
    if (std::find(found.begin(), found.end(), mapping) == found.end()) found.push_back(mapping);
  }
  return found;
}

// Throws Error if the file has already given an option that contradicts this one.
void refuse_contradiction(const OptionRow& row, const YamlValue& value, const Settings& settings) {
  for (const OptionRow& other : option_table()) {
    if (!other.value.given || !contradict(row, other) || !other.value.given(settings)) continue;
    value.fail(
        fmt::format("both {} and {} are given; keep one", name_of(other.key), name_of(row.key)));
  }
}

// Reads the options of `mapping`, which is `map` in the file.
void read_options(YamlMap& map, std::string_view mapping, const std::filesystem::path& folder,
                  Settings& settings) {
  for (const OptionRow& row : option_table()) {
    if (!row.value.read || mapping_of(row.key) != mapping) continue;
    const std::optional<YamlValue> value = map.get(name_of(row.key));
    if (!value) continue;
    refuse_contradiction(row, *value, settings);
    row.value.read(*value, folder, settings);
  }
}

}  // namespace

Deployment parse_deployment(const YamlValue& document, const std::filesystem::path& folder) {
  YamlMap map(document);
  Deployment deployment;
  read_options(map, "", folder, deployment.settings);
  for (const std::string_view mapping : inner_mappings()) {
    const std::optional<YamlValue> value = map.get(mapping);
    if (!value) continue;
    YamlMap inner(*value);
    read_options(inner, mapping, folder, deployment.settings);
    inner.finish();
  }
  const std::optional<YamlValue> model = map.get("model");
  map.finish();  // before a missing model is reported: `modle` is the likelier mistake
  if (!model) map.require("model");
  deployment.model = path_in(*model, folder);
  if (deployment.model.extension() == ".yaml" || deployment.model.extension() == ".yml") {
    model->fail("a deployment file cannot name another one as its model");
  }
  return deployment;
}

Deployment read_deployment(const std::filesystem::path& file) {
  return parse_deployment(read_yaml_file(file), file.parent_path());
}

Settings merge(const Settings& flags, const Settings& file) {
  Settings merged = flags;
  for (const OptionRow& row : option_table()) {
    if (!row.value.given || row.value.given(flags)) continue;
    const auto silences = [&](const OptionRow& other) {
      return other.value.given && contradict(row, other) && other.value.given(flags);
    };
    const std::span<const OptionRow> rows = option_table();
    if (std::none_of(rows.begin(), rows.end(), silences)) row.value.copy(file, merged);
  }
  return merged;
}

}  // namespace berth

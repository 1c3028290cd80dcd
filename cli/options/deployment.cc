#include "cli/options/deployment.h"

#include <fmt/format.h>

#include <utility>

#include "berth/error.h"
#include "cli/options/values.h"
#include "planner/machine/machine_file.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// Runs `parse` on the text of a scalar; its errors come back with file, line and field.
template <typename Parse>
auto scalar(const YamlValue& value, Parse parse) -> decltype(parse(std::string())) {
  const std::string text = value.as_text();
  try {
    return parse(text);
  } catch (const Error& error) {
    value.fail(error.what());
  }
}

template <typename T, typename Parse>
void read_scalar(YamlMap& map, std::string_view key, std::optional<T>& target, Parse parse) {
  if (const std::optional<YamlValue> value = map.get(key)) target = scalar(*value, parse);
}

void read_boolean(YamlMap& map, std::string_view key, std::optional<bool>& target) {
  if (const std::optional<YamlValue> value = map.get(key)) target = value->as_boolean();
}

void read_count(YamlMap& map, std::string_view key, std::int64_t least,
                std::optional<std::uint64_t>& target) {
  const std::optional<YamlValue> value = map.get(key);
  if (!value) return;
  const std::int64_t number = value->as_integer();
  if (number < least || number > static_cast<std::int64_t>(kMaxCount)) {
    value->fail(fmt::format("{} is out of range ({} to {})", number, least, kMaxCount));
  }
  target = static_cast<std::uint64_t>(number);
}

std::filesystem::path path_from(const YamlValue& value, const std::filesystem::path& folder) {
  const std::string text = value.as_text();
  if (text.empty()) value.fail("an empty path");
  return (folder / text).lexically_normal();
}

// {0: 24GiB, cpu: 64GiB}: order kept. YamlMap refuses a key that stands twice; the check here
// catches two spellings of one device.
std::vector<Budget> read_budgets(const YamlValue& value) {
  std::vector<Budget> budgets;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    const YamlValue size = map.require(key);
    Budget budget;
    budget.device = scalar(size, [&](const std::string&) { return device_from(key); });
    budget.bytes = scalar(size, parse_size);
    for (const Budget& earlier : budgets) {
      if (earlier.device == budget.device) size.fail("this device is given twice");
    }
    budgets.push_back(std::move(budget));
  }
  return budgets;
}

// One size for every GPU, or a mapping of devices to sizes.
std::vector<Reserve> read_reserve(const YamlValue& value) {
  if (value.is_scalar()) return {{"", scalar(value, parse_size)}};
  std::vector<Reserve> reserve;
  for (Budget& budget : read_budgets(value)) {
    reserve.push_back({std::move(budget.device), budget.bytes});
  }
  return reserve;
}

// A name in configs/hardware, a file beside the deployment, or the description itself.
MachineChoice read_machine(const YamlValue& value, const std::filesystem::path& folder) {
  if (value.is_mapping()) return parse_machine(value);
  const std::filesystem::path named = value.as_text();
  const bool is_file =
      named.has_parent_path() || named.extension() == ".yaml" || named.extension() == ".yml";
  return is_file ? path_from(value, folder) : named;
}

DeviceMapChoice read_map(const YamlValue& value, const std::filesystem::path& folder) {
  if (value.is_scalar()) return path_from(value, folder);
  DeviceMap entries;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    entries.push_back({key, scalar(map.require(key), device_from)});
  }
  return entries;
}

std::vector<Priority> read_priority(const YamlValue& value) {
  std::vector<Priority> priority;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    const YamlValue level = map.require(key);
    Priority entry;
    entry.device = scalar(level, [&](const std::string&) { return gpu_from(key); });
    entry.level = scalar(level, level_from);
    for (const Priority& earlier : priority) {
      if (earlier.device == entry.device) level.fail("this device is given twice");
    }
    priority.push_back(std::move(entry));
  }
  return priority;
}

void read_workload(const YamlValue& value, Settings& settings) {
  YamlMap map(value);
  read_count(map, "batch", 1, settings.batch);
  read_count(map, "context", 1, settings.context);
  read_count(map, "prompt_tokens", 1, settings.prompt_tokens);
  read_count(map, "new_tokens", 0, settings.new_tokens);
  read_scalar(map, "kv_dtype", settings.kv_dtype, kv_dtype_from);
  map.finish();
}

std::vector<Override> read_overrides(const YamlValue& value) {
  std::vector<Override> overrides;
  for (const YamlValue& item : value.as_list()) {
    YamlMap map(item);
    Override entry;
    entry.match = scalar(map.require("match"), glob_from);
    entry.device = scalar(map.require("device"), device_from);
    map.finish();
    overrides.push_back(std::move(entry));
  }
  return overrides;
}

void read_run(const YamlValue& value, const std::filesystem::path& folder, Settings& settings) {
  YamlMap map(value);
  if (const std::optional<YamlValue> prompt = map.get("prompt"))
    settings.prompt = prompt->as_text();
  if (const std::optional<YamlValue> ids = map.get("prompt_ids")) {
    if (settings.prompt) ids->fail("both prompt and prompt_ids are given; keep one");
    settings.prompt_ids.emplace();
    for (const YamlValue& id : ids->as_list()) {
      if (id.as_integer() < 0) id.fail("a token id is never negative");
      settings.prompt_ids->push_back(id.as_integer());
    }
  }
  read_count(map, "n", 0, settings.tokens);
  if (const std::optional<YamlValue> logits = map.get("logits")) {
    settings.logits = path_from(*logits, folder);
  }
  read_boolean(map, "stop_at_eos", settings.stop_at_eos);
  map.finish();
}

void read_placement(YamlMap& map, const std::filesystem::path& folder, Settings& settings) {
  read_scalar(map, "policy", settings.policy, policy_from);
  if (const auto machine = map.get("machine")) settings.machine = read_machine(*machine, folder);
  if (const auto budgets = map.get("max_memory")) settings.max_memory = read_budgets(*budgets);
  if (const auto device_map = map.get("device_map")) {
    if (settings.policy) device_map->fail("both policy and device_map are given; keep one");
    settings.device_map = read_map(*device_map, folder);
  }
  read_scalar(map, "dtype", settings.dtype, dtype_from);
  read_boolean(map, "dequantize", settings.dequantize);
  if (const auto reserve = map.get("reserve")) settings.reserve = read_reserve(*reserve);
  if (const auto excluded = map.get("exclude")) {
    settings.excluded.emplace();
    for (const YamlValue& device : excluded->as_list()) {
      settings.excluded->push_back(scalar(device, device_from));
    }
  }
  if (const auto priority = map.get("priority")) settings.priority = read_priority(*priority);
  if (const auto no_split = map.get("no_split")) {
    settings.no_split.emplace();
    for (const YamlValue& glob : no_split->as_list()) {
      settings.no_split->push_back(scalar(glob, glob_from));
    }
  }
  read_boolean(map, "never_offload", settings.never_offload);
  if (const auto overrides = map.get("overrides")) settings.overrides = read_overrides(*overrides);
}

void read_loading(YamlMap& map, const std::filesystem::path& folder, Settings& settings) {
  read_scalar(map, "cpu_memory", settings.cpu_memory, cpu_memory_from);
  read_boolean(map, "prefault", settings.prefault);
  read_scalar(map, "io", settings.io, io_engine_from);
  read_scalar(map, "staging", settings.staging, staging_from);
  read_boolean(map, "emulate", settings.emulate);
  read_boolean(map, "verify", settings.verify);
  if (const auto file = map.get("checksums")) settings.checksums = path_from(*file, folder);
  if (const auto value = map.get("offload_folder")) {
    settings.offload_folder = path_from(*value, folder);
  }
}

}  // namespace

Deployment parse_deployment(const YamlValue& document, const std::filesystem::path& folder) {
  YamlMap map(document);
  Deployment deployment;
  read_placement(map, folder, deployment.settings);
  read_loading(map, folder, deployment.settings);
  if (const auto workload = map.get("workload")) read_workload(*workload, deployment.settings);
  if (const auto run = map.get("run")) read_run(*run, folder, deployment.settings);
  const std::optional<YamlValue> model = map.get("model");
  map.finish();  // before a missing model is reported: `modle` is the likelier mistake
  if (!model) map.require("model");
  deployment.model = path_from(*model, folder);
  if (deployment.model.extension() == ".yaml" || deployment.model.extension() == ".yml") {
    model->fail("a deployment file cannot name another one as its model");
  }
  return deployment;
}

Deployment read_deployment(const std::filesystem::path& file) {
  return parse_deployment(read_yaml_file(file), file.parent_path());
}

}  // namespace berth

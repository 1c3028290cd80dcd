#include "cli/options/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "berth/error.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"
#include "planner/machine/sizes.h"
#include "planner/plan/budget.h"
#include "planner/plan/device_map.h"
#include "planner/plan/kv_cache.h"
#include "runtime/io/engines.h"
#include "runtime/load/sizing.h"

namespace berth {
namespace {

// Throws the Error for a `text` that is none of `names`.
[[noreturn]] void fail_choice(std::string_view text, std::string_view noun,
                              const std::vector<std::string_view>& names) {
  const std::vector<std::string> choices(names.begin(), names.end());
  const std::optional<std::string> near = nearest(text, choices);
  throw Error(fmt::format("{} is not {} ({})", quote(text), noun,
                          near ? fmt::format("did you mean {}?", quote(*near))
                               : fmt::format("choose from: {}", fmt::join(choices, ", "))));
}

// The same for the name of a precision: with the nearest and all.
[[noreturn]] void fail_precision(std::string_view text, std::string_view noun) {
  const std::vector<std::string_view> names = precision_names();
  const std::optional<std::string> near = nearest(text, {names.begin(), names.end()});
  throw Error(fmt::format("{} is not {} ({}choose from: {})", quote(text), noun,
                          near ? fmt::format("did you mean {}? ", quote(*near)) : "",
                          fmt::join(names, ", ")));
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// A dtype by its torch name, if it is among `choices`.
DType listed_dtype(std::string_view text, std::string_view noun,
                   const std::vector<std::string_view>& choices) {
  const bool listed = std::find(choices.begin(), choices.end(), text) != choices.end();
  const std::optional<DType> dtype = listed ? parse_torch_dtype(text) : std::nullopt;
  if (!dtype) fail_choice(text, noun, choices);
  return *dtype;
}

}  // namespace

Policy policy_from(std::string_view text) {
  const std::optional<Policy> policy = parse_policy(text);
  if (!policy) fail_choice(text, "a policy", policy_names());
  return *policy;
}

DTypeChoice dtype_from(std::string_view text) {
  if (text == "auto") return {};
  const std::vector<std::string_view> choices{"float32", "float16", "bfloat16"};
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    fail_choice(text, "a dtype", {"auto", "float32", "float16", "bfloat16"});
  }
  return {listed_dtype(text, "a dtype", choices)};
}

DTypeChoice planned_dtype_from(std::string_view text) {
  const Precision* precision = find_precision(text);
  if (precision == nullptr || precision->name != text) {
    fail_precision(text, "a dtype");
  }
  if (precision->made_anew()) return {std::nullopt, precision};
  return dtype_from(text);
}

DType kv_dtype_from(std::string_view text) {
  const std::optional<DType> dtype = parse_kv_dtype(text);
  if (!dtype) {
    std::vector<std::string_view> names;
    for (const KvDType& row : kv_dtypes()) {
      names.insert(names.end(), row.names.begin(), row.names.end());
    }
    fail_choice(text, "a dtype of the KV cache", names);
  }
  return *dtype;
}

CpuMemory cpu_memory_from(std::string_view text) {
  const std::optional<CpuMemory> mode = parse_cpu_memory(text);
  if (!mode) fail_choice(text, "a kind of CPU memory", cpu_memory_names());
  return *mode;
}

IoEngine io_engine_from(std::string_view text) {
  const std::optional<IoEngine> engine = find_io_engine(text);
  if (!engine) fail_choice(text, "a read engine", io_engine_names());
  return *engine;
}

Kernels kernels_from(std::string_view text) {
  const std::optional<Kernels> kernels = find_kernels(text);
  if (!kernels) fail_choice(text, "a choice of kernels", kernels_names());
  return *kernels;
}

ActivationBits activations_from(std::string_view text) {
  const std::optional<ActivationBits> bits = find_activations(text);
  if (!bits) fail_choice(text, "a form of activations", activations_names());
  return *bits;
}

std::uint64_t staging_from(std::string_view text) {
  const std::uint64_t bytes = parse_size(text);
  if (bytes < kLeastStaging) {
    throw Error(fmt::format("{} is too small to load anything (at least {})", quote(text),
                            format_size(kLeastStaging)));
  }
  return bytes;
}

std::string device_from(std::string_view text) {
  if (text == "cpu" || text == "disk") return std::string(text);
  if (text.starts_with("cpu:")) {  // a NUMA node
    const std::optional<std::uint64_t> node = whole_number(text.substr(4));
    if (node && *node <= 9999) return *node == 0 ? "cpu" : "cpu:" + std::to_string(*node);
  }
  std::string_view ordinal = text;
  for (const std::string_view prefix : {"cuda:", "gpu "}) {
    if (ordinal.substr(0, prefix.size()) == prefix) ordinal.remove_prefix(prefix.size());
  }
  const std::optional<std::uint64_t> number = whole_number(ordinal);
  if (!number || *number > 9999) {
    throw Error(
        fmt::format("{} is not a device (GPUs are 0, 1, ...; then cpu and disk)", quote(text)));
  }
  return std::to_string(*number);
}

std::vector<std::string> devices_from(std::string_view text) {
  std::vector<std::string> devices;
  for (const std::string_view part : split(text, ',')) devices.push_back(device_from(trim(part)));
  return devices;
}

std::vector<Budget> budgets_from(std::string_view text) {
  std::vector<Budget> budgets;
  for (const std::string_view part : split(text, ',')) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      throw Error(
          fmt::format("{} is not DEVICE=SIZE (for example 0=24GiB,cpu=64GiB)", quote(part)));
    }
    Budget budget{device_from(trim(part.substr(0, equals))),
                  parse_size(trim(part.substr(equals + 1)))};
    for (const Budget& earlier : budgets) {
      if (earlier.device == budget.device) {
        throw Error(fmt::format("device {} is given twice", quote(budget.device)));
      }
    }
    budgets.push_back(std::move(budget));
  }
  return budgets;
}

std::vector<Reserve> reserve_from(std::string_view text) {
  if (text.find('=') == std::string_view::npos) return {{"", parse_size(trim(text))}};
  std::vector<Reserve> reserve;
  for (Budget& budget : budgets_from(text)) {
    reserve.push_back({std::move(budget.device), budget.bytes});
  }
  return reserve;
}

int level_from(std::string_view text) {
  int level = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), level);
  const bool whole = !text.empty() && error == std::errc() && end == text.data() + text.size();
  if (!whole || level < -kMaxLevel || level > kMaxLevel) {
    throw Error(fmt::format("{} is not a level (a whole number from -{} to {}; 0 is the default)",
                            quote(text), kMaxLevel, kMaxLevel));
  }
  return level;
}

std::string gpu_from(std::string_view text) {
  std::string device = device_from(text);
  if (names_host(device) || device == "disk") {
    throw Error(
        fmt::format("{} is not a GPU; it is used after all GPUs in any case", quote(device)));
  }
  return device;
}

std::vector<Priority> priority_from(std::string_view text) {
  std::vector<Priority> priority;
  for (const std::string_view part : split(text, ',')) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      throw Error(fmt::format("{} is not DEVICE=LEVEL (for example 2=-1,0=1)", quote(part)));
    }
    Priority entry{gpu_from(trim(part.substr(0, equals))),
                   level_from(trim(part.substr(equals + 1)))};
    for (const Priority& earlier : priority) {
      if (earlier.device == entry.device) {
        throw Error(fmt::format("device {} is given twice", quote(entry.device)));
      }
    }
    priority.push_back(std::move(entry));
  }
  return priority;
}

std::string glob_from(std::string_view text) {
  if (text.empty()) throw Error("an empty pattern matches nothing");
  const std::size_t open = text.rfind('[');
  if (open != std::string_view::npos && text.find(']', open) == std::string_view::npos) {
    throw Error(fmt::format("{} has a [ without its ]", quote(text)));
  }
  return std::string(text);
}

std::vector<std::string> globs_from(std::string_view text) {
  std::vector<std::string> globs;
  for (const std::string_view part : split(text, ',')) globs.push_back(glob_from(trim(part)));
  return globs;
}

Override override_from(std::string_view text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string_view::npos) {
    throw Error(
        fmt::format("{} is not PATTERN=DEVICE (for example model.layers.2?.*=cpu)", quote(text)));
  }
  return {glob_from(trim(text.substr(0, equals))), device_from(trim(text.substr(equals + 1)))};
}

void add_machine(std::filesystem::path machine, std::vector<std::filesystem::path>& machines) {
  if (std::find(machines.begin(), machines.end(), machine) != machines.end()) {
    throw Error(fmt::format("{} is named twice", quote(machine.string())));
  }
  machines.push_back(std::move(machine));
}

std::vector<std::filesystem::path> machines_from(std::string_view text) {
  std::vector<std::filesystem::path> machines;
  for (const std::string_view part : split(text, ',')) {
    if (trim(part).empty()) throw Error("a machine is missing (2x4090,h100, files, or all)");
    add_machine(trim(part), machines);
  }
  return machines;
}

const Precision* precision_from(std::string_view text) {
  const Precision* precision = find_precision(text);
  if (precision == nullptr) fail_precision(text, "a precision");
  return precision;
}

void add_precision(const Precision* precision, std::vector<const Precision*>& precisions) {
  if (std::find(precisions.begin(), precisions.end(), precision) != precisions.end()) {
    throw Error(fmt::format("{} is named twice", quote(precision->name)));
  }
  precisions.push_back(precision);
}

std::vector<const Precision*> precisions_from(std::string_view text) {
  std::vector<const Precision*> precisions;
  for (const std::string_view part : split(text, ',')) {
    if (trim(part).empty()) throw Error("a precision is missing (bfloat16,fp8,q4_k_m)");
    add_precision(precision_from(trim(part)), precisions);
  }
  return precisions;
}

double tokens_per_second_from(std::string_view text) {
  double rate = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
  const std::string_view unit = trim({end, text.data() + text.size()});
  const bool known = unit.empty() || unit == "tok/s" || unit == "tokens/s" || unit == "token/s" ||
                     unit == "t/s" || unit == "tps";
  if (error != std::errc() || !known || !(rate > 0 && rate <= 1e9)) {
    throw Error(fmt::format("{} is not a rate of tokens (try 20tok/s)", quote(text)));
  }
  return rate;
}

std::uint64_t count_from(std::string_view text) {
  std::uint64_t unit = 1;
  std::string_view digits = text;
  if (!text.empty()) {
    const char last = text.back();
    if (last == 'k' || last == 'K') unit = 1024;
    if (last == 'm' || last == 'M') unit = 1024 * 1024;
  }
  if (unit > 1) digits.remove_suffix(1);
  const std::optional<std::uint64_t> number = whole_number(digits);
  if (!number || *number > kMaxCount / unit) {
    throw Error(fmt::format("{} is not a whole number from 0 to {} (128k is 131072)", quote(text),
                            kMaxCount));
  }
  return *number * unit;
}

std::uint64_t positive_from(std::string_view text) {
  const std::uint64_t count = count_from(text);
  if (count == 0) throw Error("must be at least 1");
  return count;
}

std::vector<std::int64_t> ids_from(std::string_view text) {
  std::vector<std::int64_t> ids;
  if (trim(text).empty()) return ids;
  for (const std::string_view part : split(text, ',')) {
    const std::optional<std::uint64_t> id = whole_number(trim(part));
    if (!id || *id > INT64_MAX) {
      throw Error(fmt::format("{} is not a token id (write them as 504,3575,282)", quote(part)));
    }
    ids.push_back(static_cast<std::int64_t>(*id));
  }
  return ids;
}

double seconds_from(std::string_view text) {
  constexpr double kLeast = 0.1, kMost = 3600;
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool whole = !text.empty() && error == std::errc() && end == text.data() + text.size();
  if (!whole || !(seconds >= kLeast && seconds <= kMost)) {
    throw Error(
        fmt::format("{} is not a time to spend ({} to {} seconds)", quote(text), kLeast, kMost));
  }
  return seconds;
}

std::string text_from(std::string_view text) { return std::string(text); }

std::filesystem::path path_from(std::string_view text) { return text; }

DeviceMapChoice device_map_from(std::string_view text) {
  std::error_code ignored;
  const std::filesystem::path file = text;
  const auto whole =
      std::filesystem::exists(file, ignored) ? std::nullopt : device_map_of_word(text);
  return whole ? DeviceMapChoice(*whole) : DeviceMapChoice(file);
}

}  // namespace berth

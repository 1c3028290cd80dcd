#include "planner/machine/machine_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include "berth/configs.h"
#include "berth/error.h"
#include "berth/machine.h"
#include "planner/base/error_kinds.h"
#include "planner/base/join.h"
#include "planner/base/near_miss.h"
#include "planner/base/position.h"
#include "planner/base/quote.h"
#include "planner/base/yaml.h"
#include "planner/machine/price.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// Bounds that keep sums of capacities within 64 bits; no device comes near them.
constexpr std::uint64_t kMostMemory = std::uint64_t{1} << 50;
constexpr std::uint64_t kMostDisk = std::uint64_t{1} << 60;

constexpr std::size_t kMostText = 4096;  // bytes of a description; that of a disk is a path
constexpr std::int64_t kMostThreads = 1 << 20;
constexpr std::uint32_t kMostPositions = 1 << 20;  // that are computed at once

// Runs one of the parsers of sizes.h on a value; adds file, line and field to its Error.
template <class Parse>
auto parsed(const YamlValue& value, Parse parse) {
  const std::string text = value.as_text();
  return with_position(value, [&] { return parse(text); });
}

double positive_rate(const YamlValue& value, double (*parse)(std::string_view)) {
  const double rate = parsed(value, parse);
  if (rate < 1) value.fail(quote(value.as_text()) + " is too small: it must be above 0");
  return rate;
}

// "0", "17": digits without a leading zero.
std::optional<unsigned> ordinal_of(std::string_view name) {
  unsigned ordinal = 0;
  const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), ordinal);
  const bool whole = error == std::errc() && stop == name.data() + name.size();
  if (!whole || name.size() > 4 || (name.size() > 1 && name[0] == '0')) return std::nullopt;
  return ordinal;
}

// The number of a further NUMA node: 1 for "cpu:1".
std::optional<unsigned> node_of(std::string_view name) {
  if (!name.starts_with("cpu:")) return std::nullopt;
  const std::optional<unsigned> node = ordinal_of(name.substr(4));
  return node == 0u ? std::nullopt : node;
}

DeviceKind kind_of_name(const YamlValue& value) {
  const std::string name = value.as_text();
  if (name == "cpu" || node_of(name)) return DeviceKind::kCpu;
  if (name == "disk") return DeviceKind::kDisk;
  if (ordinal_of(name)) return DeviceKind::kCuda;
  std::string advice = "devices are called 0, 1, ... (CUDA ordinals), cpu and disk";
  if (name == "cpu:0") value.fail("'cpu:0' is no device name (write cpu)");
  if (name.starts_with("cuda:") && ordinal_of(std::string_view(name).substr(5)))
    advice = "write " + name.substr(5);
  else if (const auto hint = nearest(name, {"cpu", "disk"}))
    advice = "did you mean " + quote(*hint) + "?";
  value.fail(quote(name) + " is no device name (" + advice + ")");
}

// The kind that a device of this name has, which for a GPU is the one that `value` says.
DeviceKind read_kind(const YamlValue& value, const std::string& name, DeviceKind expected) {
  constexpr std::array kKinds = {DeviceKind::kCuda, DeviceKind::kOther, DeviceKind::kCpu,
                                 DeviceKind::kDisk};
  const std::string text = value.as_text();
  const auto* const kind = std::find_if(kKinds.begin(), kKinds.end(), [&](DeviceKind candidate) {
    return text == device_kind_name(candidate);
  });
  if (kind == kKinds.end()) {
    const auto hint = nearest(text, {"cuda", "other", "cpu", "disk"});
    value.fail(quote(text) + " is no kind of device (" +
               (hint ? "did you mean " + quote(*hint) + "?" : "cuda, other, cpu or disk") + ")");
  }
  if (*kind == expected || (is_gpu(*kind) && is_gpu(expected))) return *kind;
  const std::string wanted = *kind == DeviceKind::kCuda    ? "a CUDA ordinal: 0, 1, ..."
                             : *kind == DeviceKind::kOther ? "a number: 0, 1, ..."
                                                           : quote(text);
  value.fail((*kind == DeviceKind::kOther ? "a device of kind other" : "a " + text + " device") +
             " must be named " + wanted + ", not " + quote(name));
}

std::uint64_t read_capacity(const YamlValue& value, DeviceKind kind) {
  const std::uint64_t bytes = parsed(value, parse_size);
  const std::uint64_t most = kind == DeviceKind::kDisk ? kMostDisk : kMostMemory;
  if (bytes == 0) value.fail("must be above 0 (leave the device out instead)");
  if (bytes > most)
    value.fail(quote(value.as_text()) + " is more than any " +
               (kind == DeviceKind::kDisk ? "disk" : "memory") + " holds (at most " +
               format_size(most) + ")");
  return bytes;
}

// Refuses a key that is no format of weights. The names are torch's, or else ggml's or ours in
// small letters, as the planner looks them up.
void check_format(const YamlValue& value, const std::string& name) {
  static const std::vector<std::string> kFormats{
      "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64",
      "int32",   "int16",   "int8",    "uint8",    "q8_0",          "q4_0",        "q4_1",
      "q5_0",    "q5_1",    "q2_k",    "q3_k",     "q4_k",          "q5_k",        "q6_k",
      "iq4_nl",  "iq4_xs",  "mxfp4",   "nvfp4",    "u4_g128",       "f8_e4m3_g128"};
  if (std::find(kFormats.begin(), kFormats.end(), name) != kFormats.end()) return;
  const auto hint = nearest(name, kFormats);
  value.fail(quote(name) + " is no dtype (" +
             (hint ? "did you mean " + quote(*hint) + "?" : "float32, bfloat16, q8_0, ...") + ")");
}

// {bfloat16: 14GB/s, ...}.
std::map<std::string, double, std::less<>> read_matvec(const YamlValue& value) {
  std::map<std::string, double, std::less<>> rates;
  YamlMap map(value);
  for (const std::string& dtype : map.keys()) {
    check_format(value, dtype);
    rates[dtype] = positive_rate(map.require(dtype), parse_bandwidth);
  }
  return rates;
}

// {1: 40GB/s, 8: 30GB/s}: by how many positions are computed at once. `read` reads a figure.
template <class Read>
KernelRates::ByPositions read_by_positions(const YamlValue& value, const Read& read) {
  KernelRates::ByPositions figures;
  YamlMap map(value);
  for (const std::string& key : map.keys()) {
    std::uint32_t positions = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), positions);
    if (error != std::errc() || end != key.data() + key.size() || positions == 0 ||
        positions > kMostPositions || key[0] == '0') {
      value.fail(quote(key) + " is no number of positions (a whole number from 1 to " +
                 std::to_string(kMostPositions) + ")");
    }
    figures[positions] = read(map.require(key));
  }
  if (figures.empty()) value.fail("needs a number of positions with its figure");
  return figures;
}

template <class Read>
KernelRates::ByFormat read_by_format(const YamlValue& value, const Read& read) {
  KernelRates::ByFormat figures;
  YamlMap formats(value);
  for (const std::string& format : formats.keys()) {
    check_format(value, format);
    figures[format] = read_by_positions(formats.require(format), read);
  }
  return figures;
}

// {products: {...}, starts: {...}, attention: 10GB/s, prompt_attention: 50GFLOP/s, layer: 30us}.
KernelRates read_kernels(const YamlValue& value) {
  YamlMap map(value);
  KernelRates kernels;
  if (const auto products = map.get("products")) {
    kernels.products = read_by_format(
        *products, [](const YamlValue& rate) { return positive_rate(rate, parse_bandwidth); });
  }
  if (const auto wide = map.get("wide")) {
    kernels.wide = read_by_format(
        *wide, [](const YamlValue& rate) { return positive_rate(rate, parse_bandwidth); });
  }
  if (const auto starts = map.get("starts")) {
    kernels.starts = read_by_format(
        *starts, [](const YamlValue& seconds) { return parsed(seconds, parse_duration); });
  }
  if (const auto rate = map.get("attention"))
    kernels.attention = positive_rate(*rate, parse_bandwidth);
  if (const auto rate = map.get("prompt_attention"))
    kernels.prompt_attention = positive_rate(*rate, parse_flops);
  if (const auto seconds = map.get("layer")) kernels.layer = parsed(*seconds, parse_duration);
  map.finish();
  return kernels;
}

Device read_device(const YamlValue& value, const Machine& machine) {
  YamlMap map(value);
  Device device;
  const YamlValue name = map.require("name");
  device.name = name.as_text();
  device.kind = kind_of_name(name);
  if (machine.find(device.name)) name.fail("device " + quote(device.name) + " is described twice");
  if (const auto kind = map.get("kind")) device.kind = read_kind(*kind, device.name, device.kind);
  device.capacity = device.total = read_capacity(map.require("capacity"), device.kind);
  if (const auto reserve = map.get("reserve")) {
    device.reserve = parsed(*reserve, parse_size);
    if (device.reserve > device.capacity)
      reserve->fail(quote(reserve->as_text()) + " is more than the device's capacity");
  }
  if (const auto rate = map.get("memory_bandwidth"))
    device.memory_bandwidth = positive_rate(*rate, parse_bandwidth);
  if (const auto rate = map.get("flops")) {
    if (device.kind == DeviceKind::kDisk) rate->fail("a disk computes nothing (leave it out)");
    device.flops = positive_rate(*rate, parse_flops);
  }
  if (const auto rates = map.get("matvec")) {
    if (device.kind == DeviceKind::kDisk) rates->fail("a disk computes nothing (leave it out)");
    device.matvec = read_matvec(*rates);
  }
  if (const auto kernels = map.get("kernels")) {
    if (device.kind != DeviceKind::kCpu) kernels->fail("only a CPU has them (leave it out)");
    device.kernels = read_kernels(*kernels);
  }
  if (const auto text = map.get("description"))
    device.description = printable(text->as_text(), kMostText);
  if (const auto text = map.get("uuid")) {
    if (!is_gpu(device.kind)) text->fail("only GPUs have one (leave it out)");
    device.uuid = printable(text->as_text());
  }
  map.finish();
  return device;
}

Calibrated read_calibrated(const YamlValue& value) {
  YamlMap map(value);
  Calibrated calibrated;
  for (const auto& [key, text] :
       {std::pair("date", &calibrated.date), std::pair("host", &calibrated.host),
        std::pair("berth", &calibrated.berth)}) {
    if (const auto given = map.get(key)) *text = printable(given->as_text());
  }
  if (const auto given = map.get("threads")) {
    const std::int64_t threads = given->as_integer();
    if (threads < 1 || threads > kMostThreads) given->fail("must be at least 1");
    calibrated.threads = static_cast<unsigned>(threads);
  }
  map.finish();
  return calibrated;
}

// The device at one end of a link.
std::string end_of_link(const YamlValue& value, const Machine& machine) {
  const std::string name = value.as_text();
  if (machine.find(name)) return name;
  value.fail("no device " + quote(name) +
             " here (devices: " + join(machine.devices, ", ", &Device::name) + ")");
}

void add_link(const YamlValue& where, Link link, Machine& machine) {
  if (link.from == link.to) where.fail("a link from " + quote(link.from) + " to itself");
  if (machine.find_link(link.from, link.to))
    where.fail("the link from " + quote(link.from) + " to " + quote(link.to) +
               " is described twice");
  machine.links.push_back(std::move(link));
}

void read_link(const YamlValue& value, Machine& machine) {
  YamlMap map(value);
  Link link;
  const auto among = map.get("among");
  const auto from = map.get("from");
  const auto to = map.get("to");
  if (among && (from || to)) value.fail("either 'among', or 'from' and 'to'");
  link.bandwidth = positive_rate(map.require("bandwidth"), parse_bandwidth);
  if (const auto latency = map.get("latency")) link.latency = parsed(*latency, parse_duration);
  map.finish();
  if (!among) {
    link.from = end_of_link(map.require("from"), machine);
    link.to = end_of_link(map.require("to"), machine);
    add_link(value, link, machine);
    return;
  }
  std::vector<std::string> names;
  for (const YamlValue& item : among->as_list()) names.push_back(end_of_link(item, machine));
  if (names.size() < 2) among->fail("needs two devices or more");
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (std::size_t j = 0; j < names.size(); ++j) {
      if (i == j) continue;
      link.from = names[i];
      link.to = names[j];
      add_link(value, link, machine);
    }
  }
}

// GPUs by ordinal, then cpu, cpu:1, ..., then disk.
bool before(const Device& a, const Device& b) {
  const auto rank = [](const Device& device) {
    const bool gpu = is_gpu(device.kind);
    return std::make_tuple(gpu ? DeviceKind::kCuda : device.kind,
                           (gpu ? ordinal_of(device.name) : node_of(device.name)).value_or(0));
  };
  return rank(a) < rank(b);
}

// The names of the machine files in `folder`, without their ending.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end;
       it.increment(ignored))
    if (it->path().extension() == ".yaml") names.push_back(it->path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The file that `name` means: a path, or the bare name of a file in configs/hardware.
fs::path find_file(const fs::path& name) {
  std::error_code ignored;
  const auto is_file = [&](const fs::path& path) {
    return fs::exists(path, ignored) && !fs::is_directory(path, ignored);
  };
  const bool bare = name == name.filename() && !name.empty();
  if (is_file(name) || !bare) return name;
  const fs::path folder = find_config_dir() / "hardware";
  if (is_file(folder / name)) return folder / name;
  const fs::path with_suffix = folder / (name.string() + ".yaml");
  if (is_file(with_suffix)) return with_suffix;
  const std::vector<std::string> known = names_in(folder);
  std::string advice = known.empty() ? "" : "there: " + join(known, ", ");
  if (const auto hint = nearest(name.stem().string(), known))
    advice = "did you mean " + quote(*hint) + "?";
  throw NoSuchName(printable(name.string()) + ": no such machine file, neither here nor in " +
                   folder.string() + (advice.empty() ? "" : " (" + advice + ")"));
}

}  // namespace

Machine parse_machine(const YamlValue& document) {
  YamlMap map(document);
  Machine machine;
  machine.source = document.file();
  const YamlValue devices = map.require("devices");
  for (const YamlValue& device : devices.as_list())
    machine.devices.push_back(read_device(device, machine));
  if (machine.devices.empty()) devices.fail("the list is empty: a machine needs a device");
  std::stable_sort(machine.devices.begin(), machine.devices.end(), before);
  for (const Device& device : machine.devices) {
    if (node_of(device.name) && !machine.find("cpu"))
      devices.fail(quote(device.name) + " is a further node of host RAM: call the first one cpu");
  }
  if (const auto links = map.get("links"))
    for (const YamlValue& link : links->as_list()) read_link(link, machine);
  if (const auto calibrated = map.get("calibrated"))
    machine.calibrated = read_calibrated(*calibrated);
  if (const auto price = map.get("price")) machine.price = parsed(*price, parse_price);
  map.finish();
  return machine;
}

Machine read_machine_file(const fs::path& name) {
  return parse_machine(read_yaml_file(find_file(name)));
}

}  // namespace berth

#include "planner/machine/machine_writer.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <utility>
#include <vector>

#include "planner/base/join.h"
#include "planner/base/yaml_quote.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// `value` in the largest unit that leaves a number of 1 or more, with four significant digits:
// "21.34GB/s".
template <std::size_t N>
std::string scaled(double value, const std::array<std::pair<double, const char*>, N>& units) {
  const auto* unit = units.data();
  while (unit != &units.back() && value < unit->first) ++unit;
  std::array<char, 32> number;
  std::snprintf(number.data(), number.size(), "%.4g", value / unit->first);
  return number.data() + std::string(unit->second);
}

std::string bandwidth(double rate) {
  constexpr std::array<std::pair<double, const char*>, 3> kUnits = {
      {{1e9, "GB/s"}, {1e6, "MB/s"}, {1, "B/s"}}};
  return scaled(rate, kUnits);
}

std::string flops(double rate) {
  constexpr std::array<std::pair<double, const char*>, 3> kUnits = {
      {{1e12, "TFLOP/s"}, {1e9, "GFLOP/s"}, {1, "FLOP/s"}}};
  return scaled(rate, kUnits);
}

std::string duration(double seconds) {
  constexpr std::array<std::pair<double, const char*>, 4> kUnits = {
      {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}}};
  return scaled(seconds, kUnits);
}

// The shortest decimal that reads back as the same number.
std::string shortest(double number) {
  std::array<char, 64> text;
  const auto [end, error] =
      std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  return error == std::errc() ? std::string(text.data(), end) : "0";
}

std::string device_name(const Device& device) {
  const bool plain = device.name == "cpu" || device.name == "disk";
  return plain ? device.name : yaml_quote(device.name);
}

std::string device_name(const Machine& machine, const std::string& name) {
  const Device* device = machine.find(name);
  return device ? device_name(*device) : yaml_quote(name);
}

// {products: {bfloat16: {1: 20GB/s, ...}, ...}, ...}; "" where nothing is known. `indent`: of the
// lines, since there are many.
std::string kernels_text(const KernelRates& kernels, const std::string& indent) {
  std::vector<std::string> parts;
  const auto add = [&](const char* key, const KernelRates::ByFormat& figures, double least,
                       std::string (*text)(double)) {
    std::vector<std::string> formats;
    for (const auto& [format, by_positions] : figures) {
      std::vector<std::string> columns;
      for (const auto& [positions, figure] : by_positions) {
        if (figure >= least) columns.push_back(std::to_string(positions) + ": " + text(figure));
      }
      if (!columns.empty()) formats.push_back(format + ": {" + join(columns, ", ") + "}");
    }
    if (!formats.empty())
      parts.push_back(std::string(key) + ": {" + join(formats, "," + indent + "  ") + "}");
  };
  add("products", kernels.products, 1, bandwidth);
  add("wide", kernels.wide, 1, bandwidth);
  add("starts", kernels.starts, 1e-9, duration);
  if (kernels.attention >= 1) parts.push_back("attention: " + bandwidth(kernels.attention));
  if (kernels.prompt_attention >= 1)
    parts.push_back("prompt_attention: " + flops(kernels.prompt_attention));
  if (kernels.layer > 0) parts.push_back("layer: " + duration(kernels.layer));
  return parts.empty() ? "" : "{" + join(parts, "," + indent) + "}";
}

// The line of a device. Keys that people do not edit come last.
std::string device_line(const Device& device) {
  std::string line = "  - {name: " + device_name(device) +
                     ", kind: " + std::string(device_kind_name(device.kind)) +
                     ", capacity: " + std::to_string(device.capacity);
  if (device.reserve > 0) line += ", reserve: " + std::to_string(device.reserve);
  if (device.memory_bandwidth >= 1)
    line += ", memory_bandwidth: " + bandwidth(device.memory_bandwidth);
  if (device.flops >= 1) line += ", flops: " + flops(device.flops);
  std::vector<std::string> rates;
  for (const auto& [dtype, rate] : device.matvec) {
    if (rate >= 1) rates.push_back(dtype + ": " + bandwidth(rate));
  }
  if (!rates.empty()) line += ", matvec: {" + join(rates, ", ") + "}";
  if (const std::string text = kernels_text(device.kernels, "\n      "); !text.empty())
    line += ",\n     kernels: " + text;
  if (!device.description.empty()) line += ", description: " + yaml_quote(device.description);
  if (!device.uuid.empty()) line += ", uuid: " + yaml_quote(device.uuid);
  return line + "}  # " + format_size(device.capacity) + "\n";
}

std::string link_line(const Machine& machine, const Link& link) {
  std::string line = "  - {from: " + device_name(machine, link.from) +
                     ", to: " + device_name(machine, link.to) +
                     ", bandwidth: " + bandwidth(link.bandwidth);
  if (link.latency > 0) line += ", latency: " + duration(link.latency);
  return line + "}\n";
}

}  // namespace

std::string write_machine(const Machine& machine) {
  std::string text;
  if (machine.calibrated) {
    const Calibrated& from = *machine.calibrated;
    text += "calibrated: {date: " + yaml_quote(from.date) + ", host: " + yaml_quote(from.host) +
            ", berth: " + yaml_quote(from.berth);
    if (from.threads > 0) text += ", threads: " + std::to_string(from.threads);
    text += "}\n";
  }
  if (machine.price) {
    const Price& price = *machine.price;
    const std::string currency = price.currency.empty() ? "" : " " + price.currency;
    text += "price: " + yaml_quote(shortest(price.an_hour) + currency + "/h") + "\n";
  }
  text += "devices:\n";
  for (const Device& device : machine.devices) text += device_line(device);
  std::string links;
  for (const Link& link : machine.links)
    if (link.bandwidth >= 1) links += link_line(machine, link);
  if (!links.empty()) text += "links:\n" + links;
  return text;
}

}  // namespace berth

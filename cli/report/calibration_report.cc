#include "cli/report/calibration_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/report/table.h"
#include "planner/base/json_writer.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

enum class Unit { kBytes, kFlops, kSeconds };

struct Figure {
  std::string device;
  std::string what;
  double value = 0;
  Unit unit = Unit::kBytes;
  std::string how;
};

const char* unit_name(Unit unit) {
  return unit == Unit::kBytes ? "B/s" : unit == Unit::kFlops ? "FLOP/s" : "s";
}

std::string shown(const Figure& figure) {
  switch (figure.unit) {
    case Unit::kBytes:
      return figure.value < 1e9 ? fmt::format("{:.1f} MB/s", figure.value / 1e6)
                                : fmt::format("{:.2f} GB/s", figure.value / 1e9);
    case Unit::kFlops:
      return figure.value < 1e12 ? fmt::format("{:.1f} GFLOP/s", figure.value / 1e9)
                                 : fmt::format("{:.2f} TFLOP/s", figure.value / 1e12);
    case Unit::kSeconds:
      return fmt::format("{:.1f} us", figure.value * 1e6);
  }
  return "";
}

void add_ram(const RamFigures& ram, std::vector<Figure>& figures) {
  const std::string how = fmt::format("{} threads over {}, median of {}", ram.threads,
                                      format_size(ram.bytes), ram.passes);
  figures.push_back({"cpu", "RAM read", ram.read, Unit::kBytes, how});
  figures.push_back({"cpu", "RAM copy", ram.copy, Unit::kBytes, "read and written bytes, both"});
}

std::string positions_text(std::uint32_t positions) {
  return fmt::format("{} position{}", positions, positions == 1 ? "" : "s");
}

// Of many positions what is computed counts, not what is read.
Figure product_figure(const KernelFigures& kernels, const std::string& format,
                      std::uint32_t positions, double rate) {
  const std::string what = fmt::format("{}, {}", format, positions_text(positions));
  const std::string how = fmt::format("{} threads, {}", kernels.threads, kernels.instructions);
  if (positions == KernelFigures::kPromptRows) {
    return {"cpu", what, kernels.flops.at(format), Unit::kFlops, how};
  }
  return {"cpu", what, rate, Unit::kBytes, how};
}

void add_kernels(const KernelFigures& kernels, std::vector<Figure>& figures) {
  for (const auto& [format, rates] : kernels.rates.products) {
    for (const auto& [positions, rate] : rates)
      figures.push_back(product_figure(kernels, format, positions, rate));
  }
  for (const auto& [format, rates] : kernels.rates.wide) {
    for (const auto& [positions, rate] : rates)
      figures.push_back({"cpu", fmt::format("{}, {}, wide", format, positions_text(positions)),
                         rate, Unit::kBytes, "matrices of 8,192 columns"});
  }
  for (const auto& [format, starts] : kernels.rates.starts) {
    for (const auto& [positions, seconds] : starts)
      figures.push_back({"cpu", fmt::format("{}, {}, start", format, positions_text(positions)),
                         seconds, Unit::kSeconds, "a product beside its weights"});
  }
}

void add_attention(const KernelFigures& kernels, std::vector<Figure>& figures) {
  figures.push_back({"cpu", "attention", kernels.rates.attention, Unit::kBytes,
                     "KV cache read for one position, 4 heads to a KV head"});
  figures.push_back({"cpu", "attention in prompts", kernels.rates.prompt_attention, Unit::kFlops,
                     positions_text(KernelFigures::kPromptRows)});
  figures.push_back({"cpu", "a layer beside its products", kernels.rates.layer, Unit::kSeconds,
                     "norms, gate, attention of one position"});
}

void add_disk(const DiskFigures& disk, std::vector<Figure>& figures) {
  figures.push_back(
      {"disk", "sequential read", disk.read, Unit::kBytes,
       fmt::format("{} of {}, {}, median of {}", format_size(disk.bytes),
                   disk.made ? "a file made for it" : "the model's files",
                   disk.direct ? "O_DIRECT" : "through the page cache", disk.passes)});
}

void add_gpus(const MeasuredGpus& gpus, std::vector<Figure>& figures) {
  for (const MeasuredGpu& gpu : gpus.gpus) {
    const std::string name = fmt::format("gpu {}", gpu.ordinal);
    const std::string copies = "pinned, " + format_size(gpu.copy_bytes) + " a copy";
    figures.push_back({name, "memory read", gpu.memory, Unit::kBytes,
                       "a kernel reads " + format_size(gpu.memory_bytes)});
    figures.push_back({name, "from host", gpu.to_device.bandwidth, Unit::kBytes, copies});
    figures.push_back({name, "to host", gpu.to_host.bandwidth, Unit::kBytes, copies});
    figures.push_back({name, "from host, latency", gpu.to_device.latency, Unit::kSeconds, "4 KiB"});
    figures.push_back({name, "to host, latency", gpu.to_host.latency, Unit::kSeconds, "4 KiB"});
  }
  for (const MeasuredPair& pair : gpus.peers) {
    const std::string name = fmt::format("gpu {}", pair.from);
    const std::string to = fmt::format("to gpu {}", pair.to);
    figures.push_back({name, to, pair.link.bandwidth, Unit::kBytes, "peer to peer"});
    figures.push_back({name, to + ", latency", pair.link.latency, Unit::kSeconds, "4 KiB"});
  }
}

// All but those of products, which have a table of their own.
std::vector<Figure> figures_of(const Measurements& measured) {
  std::vector<Figure> figures;
  if (measured.ram) add_ram(*measured.ram, figures);
  if (measured.kernels) add_attention(*measured.kernels, figures);
  if (measured.disk) add_disk(*measured.disk, figures);
  add_gpus(measured.gpus, figures);
  return figures;
}

// The device of `machine` that is the measured GPU; null if there is none.
Device* device_of(const MeasuredGpu& gpu, Machine& machine) {
  const std::string name = std::to_string(gpu.ordinal);
  for (Device& device : machine.devices) {
    if (device.kind != DeviceKind::kCuda) continue;
    const bool known = !gpu.uuid.empty() && !device.uuid.empty();
    if (known ? gpu.uuid == device.uuid : name == device.name) return &device;
  }
  return nullptr;
}

void take_gpus(const MeasuredGpus& gpus, Machine& machine) {
  std::vector<std::pair<int, std::string>> names;  // by CUDA's ordinal
  for (const MeasuredGpu& gpu : gpus.gpus) {
    Device* device = device_of(gpu, machine);
    if (!device) continue;
    device->memory_bandwidth = gpu.memory;
    names.emplace_back(gpu.ordinal, device->name);
    machine.links.push_back({"cpu", device->name, gpu.to_device.bandwidth, gpu.to_device.latency});
    machine.links.push_back({device->name, "cpu", gpu.to_host.bandwidth, gpu.to_host.latency});
  }
  const auto name_of = [&](int ordinal) {
    const auto found = std::find_if(names.begin(), names.end(),
                                    [&](const auto& entry) { return entry.first == ordinal; });
    return found == names.end() ? std::string() : found->second;
  };
  for (const MeasuredPair& pair : gpus.peers) {
    const std::string from = name_of(pair.from), to = name_of(pair.to);
    if (!from.empty() && !to.empty())
      machine.links.push_back({from, to, pair.link.bandwidth, pair.link.latency});
  }
}

// All processors of the machine were measured at once, on memory of all nodes. So each of the
// `nodes` that have processors did its part.
void take_host(const Measurements& measured, double nodes, Device& device) {
  if (measured.ram) device.memory_bandwidth = measured.ram->read / nodes;
  if (!measured.kernels) return;
  device.kernels = measured.kernels->rates;
  for (auto* const figures : {&device.kernels.products, &device.kernels.wide}) {
    for (auto& [format, rates] : *figures) {
      for (auto& [positions, rate] : rates) rate /= nodes;
    }
  }
  device.kernels.attention /= nodes;
  device.kernels.prompt_attention /= nodes;
  const auto flops = measured.kernels->flops.find("bfloat16");
  if (flops != measured.kernels->flops.end()) device.flops = flops->second / nodes;
}

}  // namespace

Machine measured_machine(const Measurements& measured, const Machine& probed) {
  Machine machine;
  const auto nodes = static_cast<double>(std::count_if(
      probed.devices.begin(), probed.devices.end(),
      [](const Device& device) { return device.kind == DeviceKind::kCpu && !device.bare; }));
  machine.calibrated = measured.calibrated;
  for (Device device : probed.devices) {
    // A machine file may not have a capacity of 0. If a device is full now, the file gets all that
    // is installed.
    if (device.capacity == 0) device.capacity = device.total;
    if (device.capacity == 0) continue;
    device.memory_bandwidth = device.flops = 0;
    if (device.kind == DeviceKind::kCpu) {
      if (!device.bare) take_host(measured, nodes, device);
    } else if (device.kind == DeviceKind::kDisk && measured.disk) {
      device.memory_bandwidth = measured.disk->read;
    }
    machine.devices.push_back(std::move(device));
  }
  take_gpus(measured.gpus, machine);
  return machine;
}

namespace {

// Lines of a format, a column for each number of positions: of its matrices, and of wide ones.
std::string products_table(const KernelFigures& kernels) {
  std::vector<std::string> head{"WEIGHTS"};
  for (const unsigned positions : KernelFigures::kRows) head.push_back(positions_text(positions));
  head.emplace_back("START OF ONE");
  Table table(head);
  for (const auto& [format, rates] : kernels.rates.products) {
    std::vector<std::string> line{format};
    for (const auto& [positions, rate] : rates)
      line.push_back(shown(product_figure(kernels, format, positions, rate)));
    const auto starts = kernels.rates.starts.find(format);
    const bool known = starts != kernels.rates.starts.end() && !starts->second.empty();
    line.push_back(known ? fmt::format("{:.1f} us", starts->second.begin()->second * 1e6) : "-");
    table.add(line);
    const auto wide = kernels.rates.wide.find(format);
    if (wide == kernels.rates.wide.end()) continue;
    line = {"  wide"};
    for (const auto& [positions, rate] : wide->second) {
      const Figure figure{"", "", rate, Unit::kBytes, ""};
      line.push_back(positions == KernelFigures::kPromptRows ? "" : shown(figure));
    }
    line.emplace_back("");
    table.add(line);
  }
  return table.text();
}

}  // namespace

std::string calibration_table(const Measurements& measured) {
  Table table({"DEVICE", "MEASURED", "RATE", "HOW"});
  for (const Figure& figure : figures_of(measured))
    table.add({figure.device, figure.what, shown(figure), figure.how});
  std::string text = table.text();
  if (!measured.kernels) return text;
  const KernelFigures& kernels = *measured.kernels;
  return text +
         fmt::format("\nproducts on the cpu, computed by {} with {} threads\n",
                     kernels.instructions, kernels.threads) +
         products_table(kernels);
}

std::string calibration_json(const Measurements& measured, const std::string& file) {
  JsonWriter json;
  std::vector<Figure> figures = figures_of(measured);
  if (measured.kernels) add_kernels(*measured.kernels, figures);
  json.begin_object().key("figures").begin_array();
  for (const Figure& figure : figures) {
    json.begin_object();
    json.member("device", figure.device).member("what", figure.what);
    json.member("value", figure.value).member("unit", unit_name(figure.unit));
    json.member("how", figure.how).end_object();
  }
  json.end_array().key("notes").begin_array();
  for (const std::string& note : measured.notes) json.value(note);
  json.end_array().member("file", file).end_object();
  return json.take();
}

}  // namespace berth

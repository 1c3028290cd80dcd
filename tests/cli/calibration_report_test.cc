// Figures as a machine, a table and JSON.
#include "cli/report/calibration_report.h"

#include <gmock/gmock.h>
#include <simdjson.h>

#include "planner/base/yaml.h"
#include "planner/machine/machine_file.h"
#include "planner/machine/machine_writer.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

Measurements made_up() {
  Measurements measured;
  measured.calibrated = {"2026-11-21", "node-7", "0.1.0", 2};
  measured.ram = RamFigures{20e9, 18e9, 2, 256u << 20, 9, {}};
  measured.kernels.emplace();
  KernelFigures& kernels = *measured.kernels;
  kernels.rates.products = {{"bfloat16", {{1, 12e9}, {4, 11e9}, {8, 10e9}, {512, 0.4e9}}},
                            {"q4_k", {{1, 18e9}, {4, 9e9}, {8, 6e9}, {512, 0.1e9}}}};
  kernels.rates.wide = {{"q4_k", {{1, 16e9}, {4, 8e9}, {8, 5e9}, {512, 0.05e9}}}};
  kernels.rates.starts = {{"q4_k", {{1, 5e-6}, {512, 1e-3}}}};
  kernels.flops = {{"bfloat16", 0.2e12}, {"q4_k", 0.18e12}};
  kernels.rates.attention = 7e9;
  kernels.rates.prompt_attention = 50e9;
  kernels.rates.layer = 30e-6;
  kernels.instructions = "AVX2";
  kernels.threads = 2;
  measured.disk.emplace();
  measured.disk->read = 3.4e9;
  for (int i = 0; i < 2; ++i) {
    MeasuredGpu gpu;
    gpu.ordinal = i;
    gpu.uuid = i == 0 ? "GPU-b" : "GPU-a";
    gpu.memory = (i + 1) * 1e12;
    gpu.to_device = {(i + 1) * 10e9, 9e-6};
    gpu.to_host = {(i + 1) * 11e9, 8e-6};
    measured.gpus.gpus.push_back(gpu);
  }
  measured.gpus.peers.push_back({0, 1, {100e9, 5e-6}});
  measured.notes = {"a note"};
  return measured;
}

Machine probed() {
  Machine machine;
  for (const auto& [name, kind] :
       {std::pair("0", DeviceKind::kCuda), std::pair("1", DeviceKind::kCuda),
        std::pair("cpu", DeviceKind::kCpu), std::pair("disk", DeviceKind::kDisk)}) {
    Device device;
    device.name = name;
    device.kind = kind;
    device.capacity = 1u << 30;
    device.total = 2u << 30;
    device.memory_bandwidth = device.flops = 7;
    machine.devices.push_back(device);
  }
  machine.devices[0].uuid = "GPU-a";
  machine.devices[1].uuid = "GPU-b";
  machine.links = {{"cpu", "0", 7, 7}};
  return machine;
}

TEST(MeasuredMachine, HoldsNothingThatWasNotMeasured) {
  const Machine machine = measured_machine(made_up(), probed());
  EXPECT_EQ(machine.find("cpu")->memory_bandwidth, 20e9);
  EXPECT_EQ(machine.find("cpu")->flops, 0.2e12) << "16-bit";
  EXPECT_EQ(machine.find("cpu")->kernels, made_up().kernels->rates);
  EXPECT_EQ(machine.find("disk")->memory_bandwidth, 3.4e9);
  EXPECT_EQ(machine.find("0")->flops, 0) << "an estimate of probing is no measurement";

  const Machine bare = measured_machine({}, probed());
  EXPECT_EQ(bare.devices.size(), 4u);
  for (const Device& device : bare.devices) EXPECT_EQ(device.memory_bandwidth, 0) << device.name;
  EXPECT_TRUE(bare.links.empty());
}

TEST(MeasuredMachine, KnowsGpusByTheirUuids) {
  const Machine machine = measured_machine(made_up(), probed());
  EXPECT_EQ(machine.find("0")->memory_bandwidth, 2e12) << "CUDA calls it 1";
  EXPECT_EQ(machine.find("1")->memory_bandwidth, 1e12);
  EXPECT_EQ(machine.find_link("cpu", "0")->bandwidth, 20e9);
  EXPECT_EQ(machine.find_link("0", "cpu")->bandwidth, 22e9);
  EXPECT_EQ(machine.find_link("1", "0")->bandwidth, 100e9);
  EXPECT_EQ(machine.find_link("0", "1"), nullptr);
  EXPECT_EQ(machine.links.size(), 5u);
}

TEST(MeasuredMachine, CanBeReadBackEvenWhereADeviceIsFull) {
  Machine full = probed();
  full.devices[0].capacity = 0;
  full.devices[3].capacity = full.devices[3].total = 0;
  const Machine machine =
      parse_machine(parse_yaml(write_machine(measured_machine(made_up(), full)), "m.yaml"));
  EXPECT_EQ(machine.find("0")->capacity, 2u << 30) << "what is installed";
  EXPECT_EQ(machine.find("disk"), nullptr) << "nothing is known of it";
}

TEST(MeasuredMachine, DividesFiguresAmongNumaNodesWithProcessors) {
  Machine nodes = probed();
  Device node = nodes.devices[2];
  node.name = "cpu:1";
  nodes.devices.insert(nodes.devices.begin() + 3, node);
  node.name = "cpu:2";
  node.bare = true;
  nodes.devices.insert(nodes.devices.begin() + 4, node);
  const Machine machine = measured_machine(made_up(), nodes);
  for (const char* name : {"cpu", "cpu:1"}) {
    EXPECT_EQ(machine.find(name)->memory_bandwidth, 10e9) << name;
    EXPECT_EQ(machine.find(name)->flops, 0.1e12) << name;
    const KernelRates& kernels = machine.find(name)->kernels;
    EXPECT_EQ(kernels.products.at("q4_k").at(4), 4.5e9) << name;
    EXPECT_EQ(kernels.wide.at("q4_k").at(8), 2.5e9) << name;
    EXPECT_EQ(kernels.attention, 3.5e9) << name;
    EXPECT_EQ(kernels.prompt_attention, 25e9) << name;
    EXPECT_EQ(kernels.layer, 30e-6) << name;
  }
  EXPECT_EQ(machine.find("cpu:2")->memory_bandwidth, 0) << "not measured";
  const Machine again = parse_machine(parse_yaml(write_machine(machine), "m.yaml"));
  EXPECT_EQ(again.find("cpu:1")->memory_bandwidth, 10e9);
}

TEST(CalibrationReport, ListsEveryFigure) {
  const std::string table = calibration_table(made_up());
  for (const char* text : {"RAM read", "20.00 GB/s", "attention in prompts", "sequential read",
                           "gpu 1", "to gpu 1", "9.0 us"})
    EXPECT_THAT(table, HasSubstr(text));
  EXPECT_THAT(
      table,
      HasSubstr("\nproducts on the cpu, computed by AVX2 with 2 threads\n"
                "WEIGHTS   1 position  4 positions  8 positions  512 positions  START OF ONE\n"
                "bfloat16  12.00 GB/s   11.00 GB/s   10.00 GB/s  200.0 GFLOP/s  -\n"
                "q4_k      18.00 GB/s    9.00 GB/s    6.00 GB/s  180.0 GFLOP/s  5.0 us\n"
                "  wide    16.00 GB/s    8.00 GB/s    5.00 GB/s"));
  simdjson::dom::parser parser;
  const std::string json = calibration_json(made_up(), "m.yaml");
  const simdjson::dom::element root = parser.parse(json).value();
  EXPECT_EQ(root["figures"].get_array().size(), 32u);
  EXPECT_EQ(double(root["figures"].at(0)["value"]), 20e9);
  EXPECT_EQ(std::string_view(root["figures"].at(0)["unit"]), "B/s");
  EXPECT_EQ(std::string_view(root["notes"].at(0)), "a note");
  EXPECT_EQ(std::string_view(root["file"]), "m.yaml");
}

}  // namespace
}  // namespace berth

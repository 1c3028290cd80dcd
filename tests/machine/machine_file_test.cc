// Machine files: what they may say, and the message for everything that can be wrong with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "berth/error.h"
#include "berth/machine.h"
#include "planner/machine/gpus.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class MachineFile : public ::testing::Test {
 protected:
  MachineFile() {
    std::string pattern = (fs::temp_directory_path() / "berth_machine_XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~MachineFile() override { fs::remove_all(folder_); }

  Machine read(const std::string& text) {
    const fs::path file = folder_ / "m.yaml";
    std::ofstream(file, std::ios::binary) << text;
    return read_machine_file(file);
  }

  // The message, without the folder.
  std::string refusal(const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      const std::string message = error.what();
      const std::string prefix = folder_.string() + "/";
      EXPECT_THAT(message, StartsWith(prefix));
      EXPECT_EQ(message.find('\n'), std::string::npos);
      return message.substr(std::min(prefix.size(), message.size()));
    }
    return "accepted";
  }
  // The same for a file whose only device is `device`.
  std::string device_refusal(const std::string& device) {
    return refusal("devices:\n  - {" + device + "}\n");
  }

  fs::path folder_;
};

std::vector<std::string> names(const Machine& machine) {
  std::vector<std::string> all;
  for (const Device& device : machine.devices) all.push_back(device.name);
  return all;
}

TEST_F(MachineFile, IsReadInFull) {
  const Machine machine = read(R"(
devices:
  - {name: disk, kind: disk, capacity: 1TB, memory_bandwidth: 3.5GB/s}
  - {name: cpu, kind: cpu, capacity: 64GiB, memory_bandwidth: 80GB/s, flops: 1.5TFLOP/s}
  - {name: "10", capacity: 8GiB}
  - {name: 2, kind: cuda, capacity: 24GiB, reserve: 512MiB, memory_bandwidth: 1008GB/s,
     flops: 165TFLOP/s, description: NVIDIA GeForce RTX 4090}
links:
  - {from: cpu, to: "2", bandwidth: 25GB/s, latency: 10us}
  - {from: "2", to: "10", bandwidth: 50GB/s}
)");
  EXPECT_THAT(machine.source, EndsWith("m.yaml"));
  EXPECT_THAT(names(machine), ElementsAre("2", "10", "cpu", "disk")) << "GPUs by number, not text";
  const Device& gpu = machine.devices[0];
  EXPECT_EQ(gpu.kind, DeviceKind::kCuda);
  EXPECT_EQ(gpu.capacity, 24ull << 30);
  EXPECT_EQ(gpu.total, 24ull << 30);
  EXPECT_EQ(gpu.reserve, 512ull << 20);
  EXPECT_DOUBLE_EQ(gpu.memory_bandwidth, 1008e9);
  EXPECT_DOUBLE_EQ(gpu.flops, 165e12);
  EXPECT_EQ(gpu.description, "NVIDIA GeForce RTX 4090");
  EXPECT_FALSE(gpu.probed);
  EXPECT_EQ(machine.devices[1].kind, DeviceKind::kCuda);
  EXPECT_EQ(machine.find("cpu")->kind, DeviceKind::kCpu);
  EXPECT_EQ(machine.find("disk")->capacity, 1'000'000'000'000u);
  EXPECT_EQ(machine.find("3"), nullptr);
  ASSERT_EQ(machine.links.size(), 2u);
  EXPECT_DOUBLE_EQ(machine.find_link("cpu", "2")->bandwidth, 25e9);
  EXPECT_DOUBLE_EQ(machine.find_link("cpu", "2")->latency, 10e-6);
  EXPECT_DOUBLE_EQ(machine.find_link("2", "10")->latency, 0);
  EXPECT_EQ(machine.find_link("2", "cpu"), nullptr);
}

TEST_F(MachineFile, LinksEveryPairAmongDevices) {
  const Machine machine = read(R"(
devices: [{name: 0, capacity: 1GB}, {name: 1, capacity: 1GB}, {name: 2, capacity: 1GB}]
links: [{among: [0, 1, 2], bandwidth: 450GB/s, latency: 3us}]
)");
  EXPECT_EQ(machine.links.size(), 6u);
  for (const char* from : {"0", "1", "2"})
    for (const char* to : {"0", "1", "2"})
      EXPECT_EQ(machine.find_link(from, to) != nullptr, std::string(from) != to) << from << to;
}

TEST_F(MachineFile, RefusesUnknownKeysWithTheNearestOne) {
  EXPECT_EQ(device_refusal("name: 0, capcity: 24GiB"),
            "m.yaml:2: devices[0].capcity: unknown key (did you mean 'capacity'?)");
  EXPECT_EQ(device_refusal("name: 0, kind: cuda"), "m.yaml:2: devices[0]: 'capacity' is missing");
  EXPECT_EQ(device_refusal("name: 0, capacity: 24GiB, memory_bandwith: 1GB/s"),
            "m.yaml:2: devices[0].memory_bandwith: unknown key (did you mean 'memory_bandwidth'?)");
  EXPECT_EQ(refusal("devices: [{name: 0, capacity: 1GB}]\nlink: []\n"),
            "m.yaml:2: link: unknown key (did you mean 'links'?)");
  EXPECT_EQ(refusal("devices: [{name: cpu, capacity: 1GB}, {name: 0, capacity: 1GB}]\nlinks:\n"
                    "  - {form: cpu, from: 0, to: cpu, bandwidth: 1GB/s}"),
            "m.yaml:3: links[0].form: unknown key (did you mean 'from'?)");
}

TEST_F(MachineFile, RefusesWrongTypes) {
  EXPECT_EQ(refusal("devices: 3"), "m.yaml:1: devices: expected a list, found '3'");
  EXPECT_EQ(refusal("devices: {name: 0}"), "m.yaml:1: devices: expected a list, found a mapping");
  EXPECT_EQ(refusal("devices: [gpu]"), "m.yaml:1: devices[0]: expected a mapping, found 'gpu'");
  EXPECT_EQ(refusal("- a"), "m.yaml:1: expected a mapping, found a list");
  EXPECT_EQ(device_refusal("name: 0, capacity: [24GiB]"),
            "m.yaml:2: devices[0].capacity: expected text, found a list");
  EXPECT_EQ(device_refusal("name: [0], capacity: 24GiB"),
            "m.yaml:2: devices[0].name: expected text, found a list");
  EXPECT_EQ(device_refusal("name: 0, name: 1, capacity: 24GiB"),
            "m.yaml:2: devices[0].name: given twice (first on line 2)");
}

TEST_F(MachineFile, RefusesImpossibleSizes) {
  EXPECT_EQ(device_refusal("name: 0, capacity: 80GBs"),
            "m.yaml:2: devices[0].capacity: '80GBs' is not a size (try 80GB)");
  EXPECT_EQ(device_refusal("name: 0, capacity: -24GiB"),
            "m.yaml:2: devices[0].capacity: '-24GiB' is not a size (it is negative)");
  EXPECT_EQ(device_refusal("name: 0, capacity: 0"),
            "m.yaml:2: devices[0].capacity: must be above 0 (leave the device out instead)");
  EXPECT_EQ(
      device_refusal("name: cpu, capacity: 2PiB"),
      "m.yaml:2: devices[0].capacity: '2PiB' is more than any memory holds (at most 1.00 PiB)");
  EXPECT_THAT(device_refusal("name: disk, capacity: 1e400"), HasSubstr("out of range"));
  EXPECT_THAT(device_refusal("name: disk, capacity: 8191PiB"), HasSubstr("more than any disk"));
  EXPECT_EQ(device_refusal("name: 0, capacity: 1GiB, reserve: 2GiB"),
            "m.yaml:2: devices[0].reserve: '2GiB' is more than the device's capacity");
  EXPECT_EQ(device_refusal("name: 0, capacity: 1GiB, memory_bandwidth: 0GB/s"),
            "m.yaml:2: devices[0].memory_bandwidth: '0GB/s' is too small: it must be above 0");
  EXPECT_EQ(device_refusal("name: 0, capacity: 1GiB, flops: 1TB"),
            "m.yaml:2: devices[0].flops: '1TB' is not a rate of FLOP/s (write it like 165TFLOP/s)");
}

TEST_F(MachineFile, RefusesNamesThatAreNoDevices) {
  EXPECT_EQ(device_refusal("name: 'cuda:0', capacity: 1GB"),
            "m.yaml:2: devices[0].name: 'cuda:0' is no device name (write 0)");
  EXPECT_EQ(device_refusal("name: CPU, capacity: 1GB"),
            "m.yaml:2: devices[0].name: 'CPU' is no device name (did you mean 'cpu'?)");
  for (const char* name : {"gpu0", "-1", "00", "1.5", "99999", "''", "0x1", "' 0'"})
    EXPECT_THAT(device_refusal(std::string("capacity: 1GB, name: ") + name),
                HasSubstr("is no device name (devices are called 0, 1, ..."))
        << name;
}

TEST_F(MachineFile, RefusesKindsThatAreUnknownOrDoNotFitTheName) {
  EXPECT_EQ(device_refusal("name: 0, kind: cdua, capacity: 1GB"),
            "m.yaml:2: devices[0].kind: 'cdua' is no kind of device (did you mean 'cuda'?)");
  EXPECT_EQ(device_refusal("name: 0, kind: rocm, capacity: 1GB"),
            "m.yaml:2: devices[0].kind: 'rocm' is no kind of device (cuda, other, cpu or disk)");
  EXPECT_EQ(device_refusal("name: cpu, kind: cuda, capacity: 1GB"),
            "m.yaml:2: devices[0].kind: a cuda device must be named a CUDA ordinal: 0, 1, ..., not "
            "'cpu'");
  EXPECT_EQ(device_refusal("name: 0, kind: disk, capacity: 1GB"),
            "m.yaml:2: devices[0].kind: a disk device must be named 'disk', not '0'");
  EXPECT_EQ(device_refusal("name: disk, capacity: 1GB, flops: 1TFLOPS"),
            "m.yaml:2: devices[0].flops: a disk computes nothing (leave it out)");
}

TEST_F(MachineFile, RefusesDuplicateDevices) {
  EXPECT_EQ(refusal("devices:\n  - {name: 0, capacity: 1GB}\n  - {name: \"0\", capacity: 2GB}\n"),
            "m.yaml:3: devices[1].name: device '0' is described twice");
}

TEST_F(MachineFile, RefusesLinksThatLeadNowhere) {
  const std::string devices = "devices: [{name: 0, capacity: 1GB}, {name: cpu, capacity: 1GB}]\n";
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: 1, bandwidth: 1GB/s}"),
            "m.yaml:3: links[0].to: no device '1' here (devices: 0, cpu)");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: cpu, bandwidth: 1GB/s}"),
            "m.yaml:3: links[0]: a link from 'cpu' to itself");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: 0, bandwidth: 1GB/s}\n"
                              "  - {among: [0, cpu], bandwidth: 1GB/s}"),
            "m.yaml:4: links[1]: the link from 'cpu' to '0' is described twice");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, bandwidth: 1GB/s}"),
            "m.yaml:3: links[0]: 'to' is missing");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: 0}"),
            "m.yaml:3: links[0]: 'bandwidth' is missing");
  EXPECT_EQ(refusal(devices + "links:\n  - {among: [0], bandwidth: 1GB/s}"),
            "m.yaml:3: links[0].among: needs two devices or more");
  EXPECT_EQ(refusal(devices + "links:\n  - {among: [0, cpu], to: 0, bandwidth: 1GB/s}"),
            "m.yaml:3: links[0]: either 'among', or 'from' and 'to'");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: 0, bandwidth: 1GB}"),
            "m.yaml:3: links[0].bandwidth: '1GB' is not a bandwidth (try 1GB/s)");
  EXPECT_EQ(refusal(devices + "links:\n  - {from: cpu, to: 0, bandwidth: 1GB/s, latency: 10}"),
            "m.yaml:3: links[0].latency: '10' is not a time (a unit is missing: s, ms, us or ns)");
}

TEST_F(MachineFile, RefusesFilesThatAreNoMachine) {
  EXPECT_EQ(refusal(""), "m.yaml:1: expected a mapping, found nothing");
  EXPECT_EQ(refusal("devices: []"),
            "m.yaml:1: devices: the list is empty: a machine needs a device");
  EXPECT_EQ(refusal("links: []"), "m.yaml:1: 'devices' is missing");
  EXPECT_THAT(refusal("devices: [{name: 0"), StartsWith("m.yaml:1: not valid YAML: "));
  EXPECT_THAT(refusal(std::string("\x7f"
                                  "ELF\x02\x01\0\0\0",
                                  9)),
              StartsWith("m.yaml:1: not YAML: control byte"));
}

TEST_F(MachineFile, NamesAnAbsentFile) {
  try {
    read_machine_file(folder_ / "none.yaml");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              (folder_ / "none.yaml").string() + ": cannot be opened: No such file or directory");
  }
}

TEST_F(MachineFile, IsFoundByItsBareName) {
  EXPECT_EQ(read_machine_file("h200").devices[0].description, "NVIDIA H200");
  EXPECT_EQ(read_machine_file("h200.yaml").devices.size(), 3u);
  try {
    read_machine_file("h20O");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith("h20O: no such machine file, neither here nor in "));
    EXPECT_THAT(error.what(), EndsWith("(did you mean 'h200'?)"));
  }
  try {
    read_machine_file("my-own-computer");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("(there: 2080ti, "), HasSubstr(", 2x4090, ")));
  }
}

TEST_F(MachineFile, MayDescribeNumaNodes) {
  Machine machine = read(R"(
devices:
  - {name: "cpu:10", capacity: 4GiB}
  - {name: "cpu:1", kind: cpu, capacity: 64GiB, memory_bandwidth: 100GB/s}
  - {name: cpu, capacity: 32GiB, memory_bandwidth: 80GB/s}
  - {name: 0, capacity: 24GiB}
)");
  EXPECT_THAT(names(machine), ElementsAre("0", "cpu", "cpu:1", "cpu:10"));
  EXPECT_EQ(machine.devices[2].kind, DeviceKind::kCpu);
  EXPECT_EQ(machine.host_capacity(), 100ull << 30);
  fill_defaults(machine);
  EXPECT_DOUBLE_EQ(machine.find_link("cpu", "cpu:1")->bandwidth, 40e9);
  EXPECT_DOUBLE_EQ(machine.find_link("cpu:1", "cpu")->bandwidth, 40e9);
  EXPECT_EQ(machine.find_link("cpu:1", "0"), nullptr) << "by way of cpu";
  EXPECT_EQ(device_refusal("name: 'cpu:1', capacity: 1GB"),
            "m.yaml:2: devices: 'cpu:1' is a further node of host RAM: call the first one cpu");
  EXPECT_EQ(device_refusal("name: 'cpu:0', capacity: 1GB"),
            "m.yaml:2: devices[0].name: 'cpu:0' is no device name (write cpu)");
  EXPECT_THAT(device_refusal("name: 'cpu:01', capacity: 1GB"), HasSubstr("is no device name"));
}

TEST_F(MachineFile, MayDescribeGpusOfOtherMakers) {
  const Machine machine = read(R"(
devices:
  - {name: cpu, capacity: 64GiB}
  - {name: 1, kind: other, capacity: 192GB, description: AMD Instinct MI300X}
  - {name: 0, capacity: 24GiB}
)");
  EXPECT_THAT(names(machine), ElementsAre("0", "1", "cpu")) << "by number, whatever the maker";
  EXPECT_EQ(machine.devices[0].kind, DeviceKind::kCuda);
  EXPECT_EQ(machine.devices[1].kind, DeviceKind::kOther);
  EXPECT_EQ(device_refusal("name: cpu, kind: other, capacity: 1GB"),
            "m.yaml:2: devices[0].kind: a device of kind other must be named a number: 0, 1, ..., "
            "not 'cpu'");
  Machine full = machine;
  fill_defaults(full);
  EXPECT_EQ(full.devices[1].memory_bandwidth, 5.3e12);
  EXPECT_EQ(full.devices[1].flops, 1307.4e12);
  EXPECT_NE(full.find_link("cpu", "1"), nullptr);
}

Device device(const char* name, DeviceKind kind) {
  Device made;
  made.name = name;
  made.kind = kind;
  return made;
}

TEST(Defaults, FillOnlyWhatIsMissing) {
  Machine machine;
  machine.devices = {device("0", DeviceKind::kCuda), device("1", DeviceKind::kCuda),
                     device("2", DeviceKind::kCuda), device("cpu", DeviceKind::kCpu),
                     device("disk", DeviceKind::kDisk)};
  machine.devices[0].flops = 7e12;
  machine.devices[1].description = "NVIDIA H200";
  machine.devices[4].memory_bandwidth = 6e9;
  machine.links = {{"0", "cpu", 3e9, 5e-6}, {"0", "1", 9e9, 1e-6}};
  fill_defaults(machine);
  EXPECT_EQ(machine.devices[0].flops, 7e12);
  EXPECT_EQ(machine.devices[0].memory_bandwidth, 1e12);
  EXPECT_EQ(machine.devices[1].flops, 989e12);
  EXPECT_EQ(machine.devices[1].memory_bandwidth, 4.8e12);
  EXPECT_EQ(machine.devices[2].flops, 150e12);
  EXPECT_EQ(machine.devices[3].memory_bandwidth, 50e9);
  EXPECT_EQ(machine.devices[3].flops, 1e12);
  EXPECT_EQ(machine.devices[4].memory_bandwidth, 6e9);
  EXPECT_EQ(machine.devices[4].flops, 0);
  EXPECT_EQ(machine.find_link("cpu", "0")->bandwidth, 3e9) << "like its reverse";
  EXPECT_EQ(machine.find_link("cpu", "0")->latency, 5e-6);
  EXPECT_EQ(machine.find_link("1", "0")->bandwidth, 9e9);
  EXPECT_NEAR(machine.find_link("cpu", "1")->bandwidth, 50e9, 1e9) << "PCIe 5";
  EXPECT_NEAR(machine.find_link("2", "cpu")->bandwidth, 25e9, 1e9) << "PCIe 4";
  EXPECT_EQ(machine.find_link("disk", "cpu")->bandwidth, 6e9);
  EXPECT_EQ(machine.find_link("1", "2"), nullptr) << "no link between GPUs is made up";
  const std::size_t links = machine.links.size();
  fill_defaults(machine);
  EXPECT_EQ(machine.links.size(), links);
}

TEST(Defaults, MakeNoLinksWhereThereIsNoCpu) {
  Machine machine;
  machine.devices = {device("0", DeviceKind::kCuda)};
  fill_defaults(machine);
  EXPECT_TRUE(machine.links.empty());
}

TEST(Gpus, AreKnownByTheNamesDriversGive) {
  const auto flops = [](const char* name) {
    const GpuFigures* gpu = find_gpu(name);
    return gpu ? gpu->flops / 1e12 : 0;
  };
  const auto bandwidth = [](const char* name) {
    const GpuFigures* gpu = find_gpu(name);
    return gpu ? gpu->memory_bandwidth / 1e9 : 0;
  };
  EXPECT_EQ(flops("NVIDIA H200"), 989);
  EXPECT_EQ(bandwidth("NVIDIA H100 80GB HBM3"), 3350);
  EXPECT_EQ(bandwidth("NVIDIA H100 PCIe"), 2000);
  EXPECT_EQ(bandwidth("NVIDIA H100 NVL"), 3900);
  EXPECT_EQ(bandwidth("NVIDIA A100-SXM4-80GB"), 2039);
  EXPECT_EQ(bandwidth("NVIDIA A100-SXM4-40GB"), 1555);
  EXPECT_EQ(bandwidth("NVIDIA A100 80GB PCIe"), 1935);
  EXPECT_EQ(flops("NVIDIA GeForce RTX 4090"), 165.2);
  EXPECT_EQ(flops("NVIDIA GeForce RTX 4080 SUPER"), 104.4);
  EXPECT_EQ(flops("NVIDIA GeForce RTX 4080"), 97.5);
  EXPECT_EQ(flops("NVIDIA RTX A6000"), 154.8);
  EXPECT_EQ(flops("NVIDIA RTX 6000 Ada Generation"), 364.2);
  EXPECT_EQ(flops("Tesla T4"), 65);
  EXPECT_EQ(flops("Tesla V100-SXM2-16GB"), 125);
  EXPECT_EQ(flops("Tesla V100-PCIE-32GB"), 112);
  EXPECT_EQ(flops("NVIDIA A10G"), 70);
  EXPECT_EQ(flops("NVIDIA L40S"), 362);
  EXPECT_EQ(flops("NVIDIA B200"), 2250);
  EXPECT_EQ(flops("NVIDIA GeForce RTX 4090 Laptop GPU"), 0) << "half the desktop part's rates";
  EXPECT_EQ(flops("NVIDIA GeForce GTX 1080"), 0);
  EXPECT_EQ(flops(""), 0);
}

TEST(Gpus, ReachFourFifthsOfTheirPcieLanes) {
  EXPECT_NEAR(pcie_bandwidth(4, 16), 25.2e9, 0.1e9);
  EXPECT_NEAR(pcie_bandwidth(3, 8), 6.3e9, 0.1e9);
  EXPECT_EQ(pcie_bandwidth(0, 16), 0);
  EXPECT_EQ(pcie_bandwidth(99, 16), 0);
  EXPECT_EQ(pcie_bandwidth(4, -1), 0);
}

}  // namespace
}  // namespace berth

// NUMA nodes on made-up trees of /sys and /proc: reading them, and dividing host RAM by them.
#include "planner/machine/nodes.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "fake_nvml.h"
#include "planner/machine/probe.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kGiB = 1 << 30;

// A host of 128 GiB, of which 100 can be had, with the fake driver and the processors of two
// sockets of four cores. No nodes until add_node().
class Nodes : public ::testing::Test {
 protected:
  Nodes() : library_(dlopen(FAKE_NVML, RTLD_NOW | RTLD_LOCAL)) {
    std::string pattern = (fs::temp_directory_path() / "berth_nodes_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    fake_ = reinterpret_cast<FakeNvml* (*)()>(dlsym(library_, "fake_nvml"))();
    *fake_ = {};
    write("proc/meminfo", "MemTotal: 134217728 kB\nMemAvailable: 104857600 kB\n");
    std::string info;
    for (int cpu = 0; cpu < 8; ++cpu) {
      info += "processor : " + std::to_string(cpu) +
              "\nmodel name : Some CPU\nphysical id : " + std::to_string(cpu / 4) +
              "\nsiblings : 4\ncpu cores : 4\nflags : avx2 fma\n\n";
    }
    write("proc/cpuinfo", info);
    around_.nvml = FAKE_NVML;
    around_.root = root_;
    around_.folder = root_;
    around_.threads = 8;
  }
  ~Nodes() override {
    fs::remove_all(root_);
    dlclose(library_);
  }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  // Sizes in GiB.
  void add_node(int id, unsigned total, unsigned free, unsigned cache, const std::string& cpus,
                const std::string& distances) {
    const std::string folder = "sys/devices/system/node/node" + std::to_string(id) + "/";
    const std::string head = "Node " + std::to_string(id) + " ";
    const auto kb = [](unsigned gib) { return std::to_string(gib * 1024ull * 1024) + " kB\n"; };
    write(folder + "meminfo",
          head + "MemTotal:       " + kb(total) + head + "MemFree:        " + kb(free) + head +
              "Inactive(file): " + kb(cache) + head + "AnonPages:      " + kb(1));
    write(folder + "cpulist", cpus + "\n");
    write(folder + "distance", distances + "\n");
  }
  void add_two_sockets() {
    add_node(0, 64, 50, 2, "0-3", "10 21");
    add_node(1, 64, 40, 8, "4-7", "21 10");
    write("sys/devices/system/node/power/async", "disabled\n");
    write("sys/devices/system/node/online", "0-1\n");
  }
  void add_gpu(const std::string& address, int node) {
    FakeGpu gpu;
    gpu.bus_id = "0000" + address;  // with the eight digits of NVML
    gpu.generation = 4;
    fake_->gpus.push_back(gpu);
    write("sys/bus/pci/devices/" + address + "/numa_node", std::to_string(node) + "\n");
  }

  void* library_;
  FakeNvml* fake_;
  fs::path root_;
  Surroundings around_;
};

std::vector<std::string> host_names(const Machine& machine) {
  std::vector<std::string> names;
  for (const Device& device : machine.devices) {
    if (device.kind == DeviceKind::kCpu) names.push_back(device.name);
  }
  return names;
}

TEST_F(Nodes, AreReadWithWhatTheProcessMayUse) {
  add_two_sockets();
  write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0,5-7\nMems_allowed_list:\t1\n");
  const std::vector<NumaNode> nodes = read_nodes(root_);
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].total, 64 * kGiB);
  EXPECT_EQ(nodes[0].available, 52 * kGiB) << "pages of files can be dropped";
  EXPECT_EQ(nodes[0].processors, 4u);
  EXPECT_EQ(nodes[0].usable, 1u);
  EXPECT_EQ(nodes[1].usable, 3u);
  EXPECT_FALSE(nodes[0].allowed);
  EXPECT_TRUE(nodes[1].allowed);
  EXPECT_EQ(nodes[0].distances, (std::map<int, int>{{0, 10}, {1, 21}}));
  EXPECT_TRUE(read_nodes(root_ / "nothing").empty());
}

TEST_F(Nodes, AreADeviceEach) {
  add_two_sockets();
  const Machine machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu", "cpu:1"));
  const Device& first = *machine.find("cpu");
  const Device& second = *machine.find("cpu:1");
  EXPECT_EQ(first.node, 0);
  EXPECT_EQ(second.node, 1);
  EXPECT_EQ(first.capacity, 52 * kGiB);
  EXPECT_EQ(second.capacity, 48 * kGiB);
  EXPECT_EQ(first.total + second.total, 128 * kGiB);
  EXPECT_EQ(machine.host_capacity(), 100 * kGiB);
  EXPECT_EQ(second.description, "Some CPU, NUMA node 1");
  EXPECT_DOUBLE_EQ(first.memory_bandwidth, 4 * 12e9) << "its own cores";
  EXPECT_DOUBLE_EQ(first.flops + second.flops, 8 * 2.5e9 * 32) << "every core once";
  const Link* link = machine.find_link("cpu", "cpu:1");
  ASSERT_TRUE(link && machine.find_link("cpu:1", "cpu"));
  EXPECT_NEAR(link->bandwidth, 48e9 * 10 / 21, 1) << "by distance";
  EXPECT_NEAR(link->latency, 210e-9, 1e-12);
}

TEST_F(Nodes, TogetherNeverHaveMoreThanTheHost) {
  add_two_sockets();
  write("proc/meminfo", "MemTotal: 134217728 kB\nMemAvailable: 62914560 kB\n");  // 60 GiB
  Machine machine = probe(around_);
  EXPECT_EQ(machine.find("cpu")->capacity, 52 * kGiB);
  EXPECT_EQ(machine.find("cpu:1")->capacity, 8 * kGiB);
  // A control group of 40 GiB, of which 10 are taken.
  write("proc/self/cgroup", "0::/a\n");
  write("proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  write("sys/fs/cgroup/a/memory.max", std::to_string(40 * kGiB) + "\n");
  write("sys/fs/cgroup/a/memory.current", std::to_string(10 * kGiB) + "\n");
  write("sys/fs/cgroup/a/memory.stat", "inactive_file 0\n");
  machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu")) << "nothing is left for a second one";
  EXPECT_EQ(machine.find("cpu")->capacity, 30 * kGiB);
  EXPECT_EQ(machine.find("cpu")->node, 0);
}

TEST_F(Nodes, ThatTheCpusetLeavesOutAreNotCounted) {
  add_two_sockets();
  write("proc/self/status", "Mems_allowed_list:\t1\nCpus_allowed_list:\t4-7\n");
  around_.threads = 4;
  const Machine machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu"));
  EXPECT_EQ(machine.find("cpu")->node, 1);
  EXPECT_EQ(machine.find("cpu")->capacity, 48 * kGiB);
  EXPECT_EQ(machine.find("cpu")->total, 64 * kGiB);
  EXPECT_DOUBLE_EQ(machine.find("cpu")->flops, 4 * 2.5e9 * 32);
  EXPECT_THAT(machine.notes, ElementsAre("the memory of NUMA node 0 is not counted: the cpuset of "
                                         "this process leaves it out"));
}

TEST_F(Nodes, OnAMachineWithOneChangeNothing) {
  const Machine without = probe(around_);
  add_node(0, 128, 3, 0, "0-7", "10");
  const Machine with = probe(around_);
  ASSERT_EQ(with.devices.size(), without.devices.size());
  for (std::size_t d = 0; d < with.devices.size(); ++d) {
    const Device& a = with.devices[d];
    const Device& b = without.devices[d];
    if (a.kind == DeviceKind::kDisk) continue;  // others write to it meanwhile
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.capacity, b.capacity) << "the node's free memory is not looked at";
    EXPECT_EQ(a.total, b.total);
    EXPECT_EQ(a.memory_bandwidth, b.memory_bandwidth);
    EXPECT_EQ(a.flops, b.flops);
    EXPECT_EQ(a.description, b.description);
    EXPECT_EQ(a.node, b.node);
  }
  EXPECT_EQ(with.links.size(), without.links.size());
  EXPECT_EQ(with.notes, without.notes);
}

TEST_F(Nodes, HaveTheGpusThatAreAttachedToThem) {
  add_two_sockets();
  add_gpu("0000:3b:00.0", 0);
  add_gpu("0000:AF:00.0", 1);
  add_gpu("0000:d8:00.0", -1);
  write("sys/bus/pci/devices/0000:af:00.0/numa_node", "1\n");  // sysfs writes small letters
  Machine machine = probe(around_);
  const auto rate = [&](const char* from, const char* to) {
    const Link* link = machine.find_link(from, to);
    return link ? link->bandwidth : 0;
  };
  const double pcie = rate("cpu", "0");
  EXPECT_NEAR(pcie, 25.2e9, 0.1e9);
  EXPECT_EQ(rate("0", "cpu"), pcie);
  const double crossing = 48e9 * 10 / 21;
  EXPECT_NEAR(rate("cpu:1", "0"), crossing, 1) << "less than PCIe";
  EXPECT_NEAR(rate("cpu", "1"), crossing, 1);
  EXPECT_EQ(rate("cpu:1", "1"), pcie);
  EXPECT_EQ(rate("cpu", "2"), pcie) << "sysfs does not say where it is";
  EXPECT_EQ(rate("cpu:1", "2"), pcie);
  const std::size_t links = machine.links.size();
  fill_defaults(machine);
  EXPECT_EQ(machine.links.size(), links + 2) << "only those of the disk are missing";
}

TEST_F(Nodes, OfMemoryAloneAreHostRamOfTheNearestProcessors) {
  add_node(0, 64, 50, 2, "0-3", "10 21 24");
  add_node(1, 32, 20, 0, "4-7", "21 10 14");
  add_node(2, 32, 28, 0, "", "24 14 10");
  const Machine machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu", "cpu:1", "cpu:2"));
  const Device& bare = *machine.find("cpu:2");
  EXPECT_TRUE(bare.bare);
  EXPECT_EQ(bare.capacity, 28 * kGiB);
  EXPECT_EQ(bare.description, "Some CPU, NUMA node 2 (memory alone)");
  EXPECT_DOUBLE_EQ(bare.flops, machine.find("cpu:1")->flops);
  EXPECT_NEAR(bare.memory_bandwidth, 48e9 * 10 / 14, 1);
  EXPECT_FALSE(machine.find("cpu:1")->bare);
  write("sys/devices/system/node/node2/access0/initiators/read_bandwidth", "31000\n");
  const Machine told = probe(around_);
  EXPECT_DOUBLE_EQ(told.find("cpu:2")->memory_bandwidth, 31e9) << "the firmware says so";
}

TEST_F(Nodes, ThatAreAGpusMemoryAreNoHostRam) {
  write("proc/meminfo", "MemTotal: 134217728 kB\nMemAvailable: 113246208 kB\n");  // 108 GiB
  add_node(0, 120, 100, 0, "0-7", "10 80");
  add_node(1, 8, 8, 0, "", "80 10");
  add_gpu("0009:01:00.0", 0);
  fake_->gpus[0].numa_node = 1;
  Machine machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu"));
  EXPECT_EQ(machine.find("cpu")->total, 120 * kGiB);
  EXPECT_EQ(machine.find("cpu")->capacity, 100 * kGiB);
  EXPECT_THAT(machine.notes, ElementsAre("NUMA node 1 is the memory of gpu 0, and no host RAM"));
  // A driver that does not say: the node is as large as the GPU.
  fake_->gpus[0].numa_node = -1;
  fake_->gpus[0].total = 8 * kGiB + (kGiB >> 3);
  machine = probe(around_);
  EXPECT_THAT(host_names(machine), ElementsAre("cpu"));
  // A GPU of another size leaves it host RAM, and so does a driver that names a node with
  // processors.
  fake_->gpus[0].total = 24 * kGiB;
  EXPECT_THAT(host_names(probe(around_)), ElementsAre("cpu", "cpu:1"));
  fake_->gpus[0].numa_node = 0;
  EXPECT_THAT(host_names(probe(around_)), ElementsAre("cpu", "cpu:1"));
}

TEST_F(Nodes, SurviveNonsense) {
  add_node(0, 64, 99, 9, "7-3,x,-,2-", "ten");
  add_node(1, 0, 0, 0, "", "");
  write("sys/devices/system/node/node2/cpulist", "4-7\n");  // no meminfo
  write("sys/devices/system/node/node/meminfo", "Node x\n");
  write("sys/devices/system/node/node007/meminfo", "Node 7 MemTotal: 5 kB\n");
  write("proc/self/status", "Mems_allowed_list:\n");
  const std::vector<NumaNode> nodes = read_nodes(root_);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0].available, nodes[0].total);
  EXPECT_THAT(host_names(probe(around_)), ElementsAre("cpu"));
  EXPECT_EQ(probe(around_).find("cpu")->capacity, 100 * kGiB);
  EXPECT_EQ(node_of_pci("", root_ / "sys"), -1);
}

}  // namespace
}  // namespace berth

// Host memory under control groups of both versions, the processor, the disk, and probing as a
// whole, all on made-up trees of /proc and /sys.
#include "planner/machine/host.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "fake_nvml.h"
#include "planner/machine/cgroup.h"
#include "planner/machine/probe.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

class Host : public ::testing::Test {
 protected:
  Host() {
    std::string pattern = (fs::temp_directory_path() / "berth_host_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    write("proc/meminfo",
          "MemTotal:       67108864 kB\nMemFree:         1048576 kB\n"
          "MemAvailable:   33554432 kB\nCached:          2097152 kB\n");
  }
  ~Host() override { fs::remove_all(root_); }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void write(const fs::path& path, std::uint64_t number) {
    write(path, std::to_string(number) + "\n");
  }

  void mount_v2(const std::string& group, const std::string& mount_root = "/") {
    write("proc/self/cgroup", "0::" + group + "\n");
    write("proc/self/mountinfo",
          "22 1 0:20 / /proc rw - proc proc rw\n"
          "30 22 0:26 " +
              mount_root + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void mount_v1(const std::string& group, const std::string& mount_root = "/") {
    write("proc/self/cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:" + group + "\n0::/\n");
    write("proc/self/mountinfo",
          "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
          "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
          "35 31 0:32 " +
              mount_root +
              " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
              "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  }
  void group_v2(const fs::path& path, const std::string& max, std::uint64_t current,
                std::uint64_t cache) {
    const fs::path folder = fs::path("sys/fs/cgroup") / path;
    write(folder / "memory.max", max + "\n");
    write(folder / "memory.current", current);
    write(folder / "memory.stat", "anon 7\nfile 99\ninactive_file " + std::to_string(cache) +
                                      "\nactive_file 0\nslab_reclaimable 0\n");
  }
  void group_v1(const fs::path& path, std::uint64_t limit, std::uint64_t usage, std::uint64_t cache,
                std::uint64_t hierarchical = 9223372036854771712u) {
    const fs::path folder = fs::path("sys/fs/cgroup/memory") / path;
    write(folder / "memory.limit_in_bytes", limit);
    write(folder / "memory.usage_in_bytes", usage);
    write(folder / "memory.stat", "inactive_file 1\nhierarchical_memory_limit " +
                                      std::to_string(hierarchical) + "\ntotal_inactive_file 0\n" +
                                      "total_active_file " + std::to_string(cache) + "\n");
  }
  HostLimits read() { return read_host_memory(root_); }

  fs::path root_;
};

TEST_F(Host, HasWhatTheKernelSaysIsAvailable) {
  EXPECT_EQ(read().total, 64 * kGiB);
  EXPECT_EQ(read().available, 32 * kGiB);
  EXPECT_EQ(read().limited_by, "");
}

TEST_F(Host, HasTheLeastCpuQuotaOfItsGroups) {
  EXPECT_EQ(read_cpu_quota(root_), 0) << "no control groups";
  mount_v2("/a/b");
  EXPECT_EQ(read_cpu_quota(root_), 0);
  write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(read_cpu_quota(root_), 1.5) << "the ancestor's";
  write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(read_cpu_quota(root_), 0.5);
  write("sys/fs/cgroup/a/b/cpu.max", "lots\n");
  EXPECT_EQ(read_cpu_quota(root_), 1.5);

  mount_v1("/m");  // its cpu controller has the group /x
  EXPECT_EQ(read_cpu_quota(root_), 0);
  write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(read_cpu_quota(root_), 0);
  write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(read_cpu_quota(root_), 3);
}

TEST_F(Host, GuessesFromFreeAndCachedOnAnOldKernel) {
  write("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1024 kB\nCached: 512 kB\n");
  EXPECT_EQ(read().available, 1536u << 10);
}

TEST_F(Host, IsUnknownWithoutMeminfo) {
  fs::remove(root_ / "proc/meminfo");
  EXPECT_EQ(read().total, 0u);
  EXPECT_EQ(read().available, 0u);
  write("proc/meminfo", "MemTotal: lots\n: 3\n\n99999999999999999999 kB");
  EXPECT_EQ(read().total, 0u);
}

TEST_F(Host, IsLimitedByItsOwnGroupV2) {
  mount_v2("/app.slice/job");
  group_v2("app.slice/job", std::to_string(8 * kGiB), 3 * kGiB, 1 * kGiB);
  EXPECT_EQ(read().total, 8 * kGiB);
  EXPECT_EQ(read().available, 6 * kGiB) << "page cache can be dropped";
  EXPECT_THAT(read().limited_by, EndsWith("sys/fs/cgroup/app.slice/job/memory.max"));
}

TEST_F(Host, IsLimitedByTheTightestAncestorV2) {
  mount_v2("/a/b/c");
  group_v2("a", std::to_string(16 * kGiB), 15 * kGiB, 0);
  group_v2("a/b", "max", 2 * kGiB, 0);
  group_v2("a/b/c", std::to_string(4 * kGiB), 1 * kGiB, 0);
  EXPECT_EQ(read().total, 4 * kGiB) << "the smallest limit";
  EXPECT_EQ(read().available, 1 * kGiB) << "the ancestor that others have filled";
  EXPECT_THAT(read().limited_by, EndsWith("cgroup/a/memory.max"));
}

TEST_F(Host, CountsMemoryHighAsALimit) {
  mount_v2("/a");
  group_v2("a", "max", 1 * kGiB, 0);
  write("sys/fs/cgroup/a/memory.high", 3 * kGiB);
  EXPECT_EQ(read().available, 2 * kGiB);
}

TEST_F(Host, HasNothingLeftOverAFullLimit) {
  mount_v2("/a");
  group_v2("a", "1000", 5000, 0);
  EXPECT_EQ(read().available, 0u);
  group_v2("a", std::to_string(2 * kGiB), 100, 1 * kGiB);
  EXPECT_EQ(read().available, 2 * kGiB) << "cache above usage is no gift";
}

TEST_F(Host, IgnoresLimitsAboveTheMachine) {
  mount_v2("/a");
  group_v2("a", std::to_string(900 * kGiB), 0, 0);
  EXPECT_EQ(read().total, 64 * kGiB);
  EXPECT_EQ(read().available, 32 * kGiB);
  EXPECT_EQ(read().limited_by, "");
}

TEST_F(Host, IsLimitedByEveryAncestorV1) {
  mount_v1("/docker/abc");
  group_v1("", 9223372036854771712u, 60 * kGiB, 0);
  group_v1("docker", 20 * kGiB, 18 * kGiB, 4 * kGiB);
  group_v1("docker/abc", 12 * kGiB, 2 * kGiB, 1 * kGiB);
  EXPECT_EQ(read().total, 12 * kGiB);
  EXPECT_EQ(read().available, 6 * kGiB);
  EXPECT_THAT(read().limited_by, EndsWith("memory/docker/memory.limit_in_bytes"));
}

TEST_F(Host, TakesTheSentinelOfV1ForNoLimit) {
  mount_v1("/docker/abc");
  group_v1("docker/abc", 9223372036854771712u, 60 * kGiB, 0);
  EXPECT_EQ(read().available, 32 * kGiB);
  EXPECT_EQ(read().limited_by, "");
}

TEST_F(Host, SeesTheHierarchicalLimitThatAContainerHides) {
  mount_v1("/docker/abc", "/docker/abc");
  group_v1("", 9223372036854771712u, 2 * kGiB, 0, 10 * kGiB);
  EXPECT_EQ(read().total, 10 * kGiB);
  EXPECT_EQ(read().available, 8 * kGiB);
}

TEST_F(Host, FindsAGroupBelowTheMountsRoot) {
  mount_v2("/docker/abc/inner", "/docker/abc");
  group_v2("", std::to_string(9 * kGiB), 0, 0);
  group_v2("inner", std::to_string(5 * kGiB), 0, 0);
  EXPECT_EQ(read().available, 5 * kGiB);
}

TEST_F(Host, TakesTheMountItselfWhereTheGroupIsOutsideIt) {
  for (const char* group : {"/kubepods/pod7/abc", "/../sibling", "/docker/abcdef"}) {
    mount_v2(group, "/docker/abc");
    group_v2("", std::to_string(7 * kGiB), 0, 0);
    EXPECT_EQ(read().available, 7 * kGiB) << group;
  }
}

TEST_F(Host, TakesTheMountWhereTheGroupsFolderIsNotShown) {
  mount_v1("/docker/abc");
  group_v1("", 7 * kGiB, 0, 0);
  EXPECT_EQ(read().available, 7 * kGiB);
}

TEST_F(Host, ReadsBothTreesOfAHybridMachine) {
  mount_v1("/a");
  group_v1("a", 9 * kGiB, 0, 0);
  write("sys/fs/cgroup/unified/memory.max", 5 * kGiB);
  EXPECT_EQ(read().available, 5 * kGiB);
}

TEST_F(Host, ReadsMountPointsWithSpaces) {
  write("proc/self/cgroup", "0::/a\n");
  write("proc/self/mountinfo", "30 22 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
  write("my groups/a/memory.max", 3 * kGiB);
  EXPECT_EQ(read().available, 3 * kGiB);
}

TEST_F(Host, SurvivesNonsense) {
  mount_v2("/a");
  group_v2("a", "12x", 0, 0);
  EXPECT_EQ(read().available, 32 * kGiB);
  group_v2("a", "-5", 0, 0);
  EXPECT_EQ(read().available, 32 * kGiB);
  write("sys/fs/cgroup/a/memory.max", "");
  EXPECT_EQ(read().available, 32 * kGiB);
  write("proc/self/cgroup", "\n::\n0\n0:\nx:y:z\n0::\n");
  write("proc/self/mountinfo",
        " - \n - cgroup2\nnonsense\n1 2 3 - cgroup2\n\\0 \\0 \\0 \\0 \\9 - cgroup2 x y");
  EXPECT_EQ(read().available, 32 * kGiB);
}

TEST(ThisHost, HasSomeMemoryAndSomeDisk) {
  const HostLimits memory = read_host_memory();
  EXPECT_GT(memory.available, 16 * kMiB);
  EXPECT_GE(memory.total, memory.available);
  EXPECT_LT(memory.total, 1ull << 50);
  const auto disk = read_disk(fs::temp_directory_path());
  ASSERT_TRUE(disk);
  EXPECT_GT(disk->total, 0u);
  EXPECT_GE(disk->total, disk->free);
}

TEST(Disk, IsThatOfTheNearestParentThatExists) {
  const fs::path here = fs::temp_directory_path();
  const auto disk = read_disk(here / "no" / "such" / "folder");
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->path, here);
  EXPECT_EQ(disk->total, read_disk(here)->total);
  EXPECT_TRUE(read_disk(""));
  EXPECT_TRUE(read_disk("not-there"));
  EXPECT_TRUE(read_disk(fs::path("/proc/self/exe") / "file")) << "a file on the way";
  EXPECT_FALSE(read_disk(std::string(5000, 'x'))) << "no name can be that long";
}

TEST_F(Host, EstimatesTheProcessor) {
  std::string info;
  for (int i = 0; i < 4; ++i)
    info += "processor\t: " + std::to_string(i) +
            "\nmodel name\t: Some CPU @ 3GHz\nphysical id\t: 0\nsiblings\t: 4\n"
            "cpu cores\t: 2\nflags\t\t: fpu avx2 fma\n\n";
  write("proc/cpuinfo", info);
  CpuReport cpu = read_cpu(4, root_);
  EXPECT_EQ(cpu.model, "Some CPU @ 3GHz");
  EXPECT_EQ(cpu.cores, 2u) << "two threads a core";
  EXPECT_DOUBLE_EQ(cpu.memory_bandwidth, 24e9);
  EXPECT_DOUBLE_EQ(cpu.flops, 2 * 2.5e9 * 32);
  cpu = read_cpu(1, root_);
  EXPECT_EQ(cpu.cores, 1u);
  write("proc/cpuinfo", "flags : avx512f\n");
  cpu = read_cpu(128, root_);
  EXPECT_EQ(cpu.cores, 128u);
  EXPECT_DOUBLE_EQ(cpu.memory_bandwidth, 200e9) << "a socket's most";
  EXPECT_DOUBLE_EQ(cpu.flops, 128 * 2.5e9 * 64);
  fs::remove(root_ / "proc/cpuinfo");
  EXPECT_GT(read_cpu(0, root_).flops, 0);
}

// Probing as a whole, with the fake driver and a made-up host.
class Probe : public Host {
 protected:
  Probe() : library_(dlopen(FAKE_NVML, RTLD_NOW | RTLD_LOCAL)) {
    const auto state = reinterpret_cast<FakeNvml* (*)()>(dlsym(library_, "fake_nvml"));
    fake_ = state();
    *fake_ = {};
    for (int i = 0; i < 3; ++i) {
      FakeGpu gpu;
      gpu.uuid = "GPU-" + std::to_string(i) + "000";
      gpu.bus_id = "00000000:" + std::to_string(10 + i) + ":00.0";
      gpu.free = (10 + static_cast<unsigned>(i)) * kGiB;
      fake_->gpus.push_back(gpu);
    }
    around_.nvml = FAKE_NVML;
    around_.root = root_;
    around_.folder = root_ / "downloads";
    around_.threads = 8;
  }
  ~Probe() override { dlclose(library_); }

  void* library_;
  FakeNvml* fake_;
  Surroundings around_;
};

TEST_F(Probe, ListsGpusThenCpuThenDisk) {
  const Machine machine = probe(around_);
  EXPECT_EQ(machine.source, "this machine");
  ASSERT_EQ(machine.devices.size(), 5u);
  const Device& gpu = machine.devices[1];
  EXPECT_EQ(gpu.name, "1");
  EXPECT_EQ(gpu.kind, DeviceKind::kCuda);
  EXPECT_EQ(gpu.capacity, 11 * kGiB);
  EXPECT_EQ(gpu.total, 80 * kGiB);
  EXPECT_EQ(gpu.description, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(gpu.uuid, "GPU-1000");
  EXPECT_EQ(gpu.pci_bus_id, "00000000:11:00.0");
  EXPECT_TRUE(gpu.probed);
  EXPECT_EQ(machine.devices[3].name, "cpu");
  EXPECT_EQ(machine.devices[3].capacity, 32 * kGiB);
  EXPECT_EQ(machine.devices[3].total, 64 * kGiB);
  EXPECT_GT(machine.devices[3].flops, 0);
  EXPECT_EQ(machine.devices[4].name, "disk");
  EXPECT_GT(machine.devices[4].capacity, 0u);
  EXPECT_NEAR(machine.find_link("cpu", "1")->bandwidth, 50e9, 1e9);
  EXPECT_EQ(machine.find_link("0", "1"), nullptr) << "neither NVLink nor peer access";
}

TEST_F(Probe, RenumbersTheGpusThatAreVisible) {
  around_.visible_devices = "GPU-2,0";
  const Machine machine = probe(around_);
  ASSERT_EQ(machine.devices.size(), 4u);
  EXPECT_EQ(machine.devices[0].name, "0");
  EXPECT_EQ(machine.devices[0].uuid, "GPU-2000");
  EXPECT_EQ(machine.devices[1].uuid, "GPU-0000");
}

TEST_F(Probe, KeepsOrdinalsPastAGpuThatFails) {
  fake_->fails = "memory";
  fake_->failing_gpu = 1;
  const Machine machine = probe(around_);
  ASSERT_EQ(machine.devices.size(), 4u);
  EXPECT_EQ(machine.devices[1].name, "2");
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("does not report its memory")));
}

TEST_F(Probe, LinksGpusByNvlinkAndElseByPeerAccess) {
  fake_->gpus[0].switch_links = fake_->gpus[2].switch_links = 18;
  fake_->gpus[1].lanes = 4;
  fake_->peers = true;
  const Machine machine = probe(around_);
  EXPECT_NEAR(machine.find_link("0", "2")->bandwidth, 0.8 * 450e9, 1);
  EXPECT_NEAR(machine.find_link("0", "1")->bandwidth, 12.6e9, 0.1e9) << "PCIe 5 x4";
}

TEST_F(Probe, SaysWhichLimitBindsTheHost) {
  mount_v2("/a");
  group_v2("a", std::to_string(1 * kGiB), 0, 0);
  const Machine machine = probe(around_);
  EXPECT_EQ(machine.find("cpu")->capacity, 1 * kGiB);
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("limited by a control group: 1.00 GiB left")));
}

TEST_F(Probe, NeverFailsOnABareMachine) {
  around_.nvml = "libberth-no-such-library.so";
  around_.root = root_ / "nothing";
  const Machine machine = probe(around_);
  ASSERT_EQ(machine.devices.size(), 2u);
  EXPECT_EQ(machine.find("cpu")->capacity, 0u);
  EXPECT_EQ(machine.notes.size(), 2u);
}

TEST_F(Probe, AsksTheKernelOfMemoryWhereProcIsNotThere) {
  fs::remove(root_ / "proc/meminfo");
  around_.kernel_memory = [] { return HostLimits{64 * kGiB, 40 * kGiB, ""}; };
  const Machine machine = probe(around_);
  EXPECT_EQ(machine.find("cpu")->capacity, 40 * kGiB);
  EXPECT_EQ(machine.find("cpu")->total, 64 * kGiB);
  EXPECT_THAT(machine.notes, ElementsAre(HasSubstr("no /proc/meminfo")));
}

TEST(ThisMachine, HasMemoryWithoutProc) {
  ASSERT_TRUE(real_surroundings(".").kernel_memory);
  const HostLimits memory = real_surroundings(".").kernel_memory();
  EXPECT_GT(memory.available, 0u);
  EXPECT_GE(memory.total, memory.available);
  EXPECT_GE(memory.total, read_host_memory().total) << "which a control group may limit";
}

TEST(ThisMachine, CanBeProbed) {
  const Machine machine = probe_machine(".");
  ASSERT_TRUE(machine.find("cpu") && machine.find("disk"));
  EXPECT_GT(machine.find("cpu")->capacity, 0u);
}

}  // namespace
}  // namespace berth

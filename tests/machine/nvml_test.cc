// GPUs as a driver reports them. A fake driver library can be told to fail.
#include "planner/machine/nvml.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_nvml.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Keeps the fake library open, so that read_nvml() finds the state that is set here.
class Nvml : public ::testing::Test {
 protected:
  explicit Nvml(const char* path = FAKE_NVML) : library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (!library_) throw std::runtime_error(dlerror());
    const auto state = reinterpret_cast<FakeNvml* (*)()>(dlsym(library_, "fake_nvml"));
    fake_ = state();
    *fake_ = {};
  }
  ~Nvml() override {
    EXPECT_EQ(fake_->inits, fake_->shutdowns);
    dlclose(library_);
  }

  void add_gpus(int count) {
    for (int i = 0; i < count; ++i) {
      FakeGpu gpu;
      gpu.uuid = "GPU-" + std::to_string(i) + "000";
      gpu.bus_id = "00000000:" + std::to_string(10 + i) + ":00.0";
      fake_->gpus.push_back(gpu);
    }
  }
  // The report if `function` fails for GPU 1 of three.
  NvmlReport with_failure(const char* function) {
    fake_->gpus.clear();
    add_gpus(3);
    for (FakeGpu& gpu : fake_->gpus) gpu.switch_links = 18;
    fake_->fails = function;
    fake_->failing_gpu = 1;
    return read_nvml(FAKE_NVML);
  }

  void* library_;
  FakeNvml* fake_;
};

TEST_F(Nvml, ReportsWhatTheDriverSays) {
  add_gpus(2);
  fake_->gpus[1].name = "Tesla T4";
  fake_->gpus[1].free = 3;
  fake_->gpus[1].generation = 3;
  fake_->gpus[1].lanes = 8;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_THAT(report.notes, IsEmpty());
  ASSERT_EQ(report.gpus.size(), 2u);
  EXPECT_EQ(report.gpus[0].name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(report.gpus[0].uuid, "GPU-0000");
  EXPECT_EQ(report.gpus[0].pci_bus_id, "00000000:10:00.0");
  EXPECT_EQ(report.gpus[0].total, 80ull << 30);
  EXPECT_EQ(report.gpus[0].free, 79ull << 30);
  EXPECT_TRUE(report.gpus[0].usable);
  EXPECT_DOUBLE_EQ(report.gpus[0].speed, 16896 * 1980e6);
  EXPECT_EQ(report.gpus[1].name, "Tesla T4");
  EXPECT_EQ(report.gpus[1].free, 3u);
  EXPECT_EQ(report.gpus[1].pcie_generation, 3);
  EXPECT_EQ(report.gpus[1].pcie_lanes, 8);
  EXPECT_EQ(report.nvlink[0][1], 0);
  EXPECT_FALSE(report.peer[0][1]);
}

TEST_F(Nvml, AddsUpDirectLinks) {
  add_gpus(3);
  fake_->gpus[0].links = {1, 1, 1, 2};
  fake_->gpus[0].dead_links = 2;
  fake_->gpus[1].links = {0, 0, 0};
  fake_->gpus[2].links = {0};
  fake_->gpus[2].link_speed_mbps = 0;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_DOUBLE_EQ(report.nvlink[0][1], 75e9);
  EXPECT_DOUBLE_EQ(report.nvlink[0][2], 25e9);
  EXPECT_DOUBLE_EQ(report.nvlink[2][0], 25e9) << "the usual speed where the driver says none";
  EXPECT_DOUBLE_EQ(report.nvlink[1][2], 0);
}

TEST_F(Nvml, JoinsAllThatHaveLinksToSwitches) {
  add_gpus(3);
  fake_->gpus[0].switch_links = fake_->gpus[1].switch_links = 18;
  fake_->gpus[1].switch_links = 12;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_DOUBLE_EQ(report.nvlink[0][1], 300e9) << "the side with fewer links";
  EXPECT_DOUBLE_EQ(report.nvlink[1][0], 300e9);
  EXPECT_DOUBLE_EQ(report.nvlink[0][2], 0);
}

TEST_F(Nvml, ReportsPeerAccess) {
  add_gpus(2);
  fake_->peers = true;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_TRUE(report.peer[0][1] && report.peer[1][0]);
  EXPECT_FALSE(report.peer[0][0]);
}

TEST_F(Nvml, NotesAGpuThatDoesNotAnswerAndKeepsItsPlace) {
  fake_->error = 15;
  const NvmlReport report = with_failure("handle");
  ASSERT_EQ(report.gpus.size(), 3u);
  EXPECT_TRUE(report.gpus[0].usable && report.gpus[2].usable);
  EXPECT_FALSE(report.gpus[1].usable);
  EXPECT_THAT(report.notes, ElementsAre("GPU 1 (in PCI order) does not answer: GPU is lost"));
  EXPECT_GT(report.nvlink[0][2], 0);
}

TEST_F(Nvml, NotesAGpuWithoutMemory) {
  EXPECT_THAT(
      with_failure("memory").notes,
      ElementsAre("GPU 1 (in PCI order), NVIDIA H100 80GB HBM3, does not report its memory: "
                  "Unknown Error"));
  fake_->fails.clear();
  fake_->gpus[2].total = 0;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_FALSE(report.gpus[2].usable);
  EXPECT_THAT(report.notes, ElementsAre(HasSubstr("zero bytes")));
}

TEST_F(Nvml, PassesOverAGpuCutUpByMig) {
  add_gpus(2);
  fake_->gpus[0].mig = 1;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_FALSE(report.gpus[0].usable);
  EXPECT_TRUE(report.gpus[1].usable);
  EXPECT_THAT(report.notes, ElementsAre(HasSubstr("divided by MIG")));
}

TEST_F(Nvml, DoesWithoutWhatIsOptional) {
  for (const char* function : {"name", "uuid", "pci", "generation", "width", "cores", "clock",
                               "mig", "link_state", "link_remote", "fields", "p2p"}) {
    const NvmlReport report = with_failure(function);
    ASSERT_EQ(report.gpus.size(), 3u) << function;
    for (const GpuReport& gpu : report.gpus) EXPECT_TRUE(gpu.usable) << function;
    EXPECT_THAT(report.notes, IsEmpty()) << function;
  }
  EXPECT_EQ(with_failure("name").gpus[1].name, "GPU");
  EXPECT_EQ(with_failure("uuid").gpus[1].uuid, "");
  EXPECT_EQ(with_failure("generation").gpus[1].pcie_generation, 3) << "the current one instead";
  EXPECT_EQ(with_failure("width").gpus[1].pcie_lanes, 8);
  EXPECT_EQ(with_failure("clock").gpus[1].speed, 0);
  EXPECT_EQ(with_failure("link_state").nvlink[0][1], 0);
  EXPECT_GT(with_failure("link_state").nvlink[0][2], 0);
}

TEST_F(Nvml, IsEmptyWithANoteWhereTheDriverRefuses) {
  add_gpus(1);
  fake_->fails = "init";
  NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_THAT(report.gpus, IsEmpty());
  EXPECT_THAT(report.notes, ElementsAre("no GPUs: the NVIDIA driver refuses (Unknown Error)"));
  fake_->fails = "count";
  report = read_nvml(FAKE_NVML);
  EXPECT_THAT(report.gpus, IsEmpty());
  EXPECT_THAT(report.notes, ElementsAre(HasSubstr("does not count them (Unknown Error)")));
}

TEST_F(Nvml, DoesNotBelieveAWildCount) {
  fake_->claims = 2'000'000;
  EXPECT_THAT(read_nvml(FAKE_NVML).notes, ElementsAre(HasSubstr("counts 2000000")));
  fake_->claims = 3;
  const NvmlReport report = read_nvml(FAKE_NVML);
  EXPECT_EQ(report.gpus.size(), 3u);
  EXPECT_EQ(report.notes.size(), 3u) << "none of them answers";
}

TEST_F(Nvml, MakesForeignTextPrintable) {
  add_gpus(1);
  fake_->gpus[0].name = "bad\nname";
  EXPECT_EQ(read_nvml(FAKE_NVML).gpus[0].name, "bad\\x0aname");
}

TEST(NvmlLibrary, ThatIsAbsentIsANote) {
  const NvmlReport report = read_nvml("libberth-no-such-library.so.1");
  EXPECT_THAT(report.gpus, IsEmpty());
  EXPECT_THAT(report.notes, ElementsAre(StartsWith("no GPUs: ")));
}

TEST(NvmlLibrary, ThatLacksANeededFunctionIsANote) {
  const NvmlReport report = read_nvml(FAKE_NVML_LACKS_MEMORY);
  EXPECT_THAT(report.gpus, IsEmpty());
  EXPECT_THAT(report.notes, ElementsAre("no GPUs: the NVIDIA driver's library lacks "
                                        "nvmlDeviceGetMemoryInfo"));
}

class OldNvml : public Nvml {
 protected:
  OldNvml() : Nvml(FAKE_NVML_OLD) {}
};

TEST_F(OldNvml, StillTellsMemory) {
  add_gpus(2);
  const NvmlReport report = read_nvml(FAKE_NVML_OLD);
  ASSERT_EQ(report.gpus.size(), 2u);
  EXPECT_TRUE(report.gpus[1].usable);
  EXPECT_EQ(report.gpus[1].name, "GPU");
  EXPECT_EQ(report.gpus[1].total, 80ull << 30);
  EXPECT_EQ(report.nvlink[0][1], 0);
  fake_->fails = "handle";
  EXPECT_THAT(read_nvml(FAKE_NVML_OLD).notes.at(0), HasSubstr("NVML error 999"));
}

}  // namespace
}  // namespace berth

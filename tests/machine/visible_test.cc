// CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER must mean what they mean to CUDA.
#include "planner/machine/visible.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<GpuReport> four_alike() {
  std::vector<GpuReport> gpus(4);
  const char* uuids[] = {"GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"};
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    gpus[i].name = "NVIDIA L4";
    gpus[i].uuid = uuids[i];
    gpus[i].speed = 1;
  }
  return gpus;
}

class Visible : public ::testing::Test {
 protected:
  std::vector<std::size_t> shown(const std::optional<std::string>& visible,
                                 const std::optional<std::string>& order = std::nullopt) {
    notes_.clear();
    return visible_gpus(gpus_, visible, order, notes_);
  }
  std::vector<GpuReport> gpus_ = four_alike();
  std::vector<std::string> notes_;
};

TEST_F(Visible, IsEveryGpuWithoutTheVariable) {
  EXPECT_THAT(shown(std::nullopt), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Visible, IsNoneWhereTheVariableIsEmpty) {
  EXPECT_THAT(shown(""), IsEmpty());
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("hides every GPU")));
  EXPECT_THAT(shown("  "), IsEmpty());
}

TEST_F(Visible, FollowsTheOrderOfTheList) {
  EXPECT_THAT(shown("2,0"), ElementsAre(2, 0));
  EXPECT_THAT(shown(" 3 , 1 "), ElementsAre(3, 1));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Visible, TakesUuidsAndTheirUnambiguousBeginnings) {
  EXPECT_THAT(shown("GPU-bb33,GPU-aa11"), ElementsAre(2, 0));
  EXPECT_THAT(shown("GPU-c,GPU-aa2"), ElementsAre(3, 1));
  EXPECT_THAT(shown("GPU-b,0"), ElementsAre(2, 0));
  EXPECT_THAT(notes_, IsEmpty());
  EXPECT_THAT(shown("GPU-c,GPU-a"), ElementsAre(3));
  EXPECT_THAT(notes_, ElementsAre("CUDA_VISIBLE_DEVICES: 'GPU-a' is the beginning of more than one "
                                  "GPU's UUID; CUDA ends the list there, at 1 GPU"));
  EXPECT_THAT(shown("GPU-zz"), IsEmpty());
}

TEST_F(Visible, EndsAtTheFirstEntryThatNamesNoGpu) {
  EXPECT_THAT(shown("0,1,4,2"), ElementsAre(0, 1));
  EXPECT_THAT(notes_, ElementsAre("CUDA_VISIBLE_DEVICES: '4' names no GPU here (there are 4); CUDA "
                                  "ends the list there, at 2 GPUs"));
  EXPECT_THAT(shown("0,-1,2"), ElementsAre(0));
  EXPECT_THAT(shown("-1"), IsEmpty());
  EXPECT_THAT(shown("1,,2"), ElementsAre(1));
  EXPECT_THAT(shown("1,"), ElementsAre(1));
  EXPECT_THAT(shown("NoDevFiles"), IsEmpty());
  EXPECT_THAT(shown("99999999999999999999999"), IsEmpty());
  EXPECT_THAT(shown("1gpu"), ElementsAre(1)) << "CUDA reads the number it starts with";
}

TEST_F(Visible, ShowsNoneWhereAGpuIsNamedTwice) {
  EXPECT_THAT(shown("0,1,0"), IsEmpty());
  EXPECT_THAT(shown("0,GPU-aa11"), IsEmpty());
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("a second time")));
}

TEST_F(Visible, NamesMigInstancesAsUnsupported) {
  EXPECT_THAT(shown("1,MIG-4f3a,2"), ElementsAre(1));
  EXPECT_THAT(notes_,
              ElementsAre(HasSubstr("'MIG-4f3a' is a MIG instance, which Berth does not use")));
}

TEST_F(Visible, PutsTheFasterFirstWhereGpusDiffer) {
  gpus_[2].name = "NVIDIA H200";
  gpus_[2].speed = 9;
  EXPECT_THAT(shown(std::nullopt), ElementsAre(2, 0, 1, 3));
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("CUDA_DEVICE_ORDER=PCI_BUS_ID")));
  EXPECT_THAT(shown("0,3", "FASTEST_FIRST"), ElementsAre(2, 3)) << "indices count in that order";
  EXPECT_THAT(shown("0,3", "PCI_BUS_ID"), ElementsAre(0, 3));
  EXPECT_THAT(notes_, IsEmpty());
  gpus_[0].speed = 0;
  EXPECT_THAT(shown(std::nullopt), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("in PCI order")));
}

TEST_F(Visible, IsQuietWithoutGpus) {
  gpus_.clear();
  EXPECT_THAT(shown("0,1"), IsEmpty());
  EXPECT_THAT(notes_, IsEmpty());
}

}  // namespace
}  // namespace berth

// The rules that keep devices apart. This is the only test that includes ATen.

#include "runtime/exec/placed.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/program/made_model.h"

namespace berth::testing {
namespace {

class PlacementTest : public ::testing::Test {
 protected:
  Model model_ = open_made("gpt2");
  Plan plan_ = made_plan(model_.tree, [](const auto&, TensorId id) { return id % 4; });
  MadeLoad loaded_{model_.tree, plan_};
  Placement placement_{plan_, model_.tree, loaded_};
};

TEST_F(PlacementTest, CopiesWhatMovesEvenBetweenEmulatedDevices) {
  const Placed here{at::ones({2, 3}), kGpu0};
  const Placed there = placement_.move(here, kGpu1);
  EXPECT_EQ(there.device, kGpu1);
  EXPECT_NE(there.value.const_data_ptr(), here.value.const_data_ptr());
  EXPECT_TRUE(there.value.equal(here.value));
  EXPECT_EQ(placement_.hops(), 1u);
}

TEST_F(PlacementTest, LeavesWhatIsThereAlready) {
  const Placed here{at::ones({2, 3}), kGpu0};
  EXPECT_EQ(placement_.move(here, kGpu0).value.const_data_ptr(), here.value.const_data_ptr());
  EXPECT_EQ(placement_.hops(), 0u);
}

TEST_F(PlacementTest, RefusesOperandsOfDifferentDevices) {
  const Placed left{at::ones({2}), kGpu0};
  const Placed right{at::ones({2}), kCpu};
  EXPECT_NO_THROW(require_together({&left, &left}));
  EXPECT_THROW(require_together({&left, &right}), Error);
}

TEST_F(PlacementTest, ComputesWithTheDisksTensorsOnTheFirstGpuElseTheCpu) {
  EXPECT_EQ(placement_.compute_device(kDisk), kGpu0);
  const Plan cpu_plan =
      made_plan(model_.tree, [](const auto&, TensorId id) { return id % 2 == 0 ? kCpu : kDisk; });
  const MadeLoad loaded(model_.tree, cpu_plan);
  EXPECT_EQ(Placement(cpu_plan, model_.tree, loaded).compute_device(kDisk), kCpu);
}

}  // namespace
}  // namespace berth::testing

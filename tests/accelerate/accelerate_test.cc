// Compares our placements with those that Accelerate 1.15 itself made (on the meta device), for a
// seeded sample of random module trees and for fourteen published models.
#include "planner/accelerate/accelerate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "berth/error.h"
#include "planner/plan/budget.h"
#include "planner/plan/device_map.h"
#include "tests/planner/compact_tree.h"

namespace berth {
namespace {

std::string as_text(const DeviceMap& map) {
  std::map<std::string, std::string> sorted;
  for (const auto& [module, device] : map) sorted[module] = device;
  std::string out;
  for (const auto& [module, device] : sorted) out += module + ":" + device + " ";
  return out;
}

std::vector<CompactModel> oracle() {
  if (const char* other = std::getenv("BERTH_ACCELERATE_CASES")) return read_compact_models(other);
  const std::string folder = BERTH_SOURCE_DIR "/tests/accelerate/data/";
  std::vector<CompactModel> models = read_compact_models(folder + "accelerate.json");
  // Trees full of traps: names inside names, buffers on split modules, bools, gaps in GPU numbers.
  for (CompactModel& odd : read_compact_models(folder + "accelerate_odd.json")) {
    models.push_back(std::move(odd));
  }
  return models;
}

TEST(Accelerate, PlacesEveryTensorAsAccelerateDoes) {
  std::size_t good = 0;
  std::size_t total = 0;
  for (const CompactModel& model : oracle()) {
    for (const CompactCase& c : model.cases) {
      const AccelerateResult got = accelerate_place(model.tree, c.policy, c.max_memory, false);
      const DeviceMapIndex want_index(c.device_map);
      const DeviceMapIndex have_index(got.device_map);
      std::string wrong;
      for (TensorId t = 0; t < model.tree.tensors.size() && wrong.empty(); ++t) {
        const std::string name(model.tree.tensors[t].name);
        const std::uint32_t want = want_index.find(name);
        const std::uint32_t have = have_index.find(name);
        if (want == kNone && model.tree.tensors[t].buffer) continue;  // Accelerate forgot it
        if (want == kNone || have == kNone ||
            c.device_map[want].device != got.device_map[have].device ||
            got.budgets[got.tensor_device[t]].device != got.device_map[have].device) {
          wrong = name;
        }
      }
      ++total;
      good += wrong.empty() ? 1 : 0;
      EXPECT_EQ(wrong, "") << model.tree.name << " " << c.name << " " << policy_name(c.policy)
                           << "\nwant " << as_text(c.device_map) << "\nhave "
                           << as_text(got.device_map);
    }
  }
  std::printf("placements that agree with Accelerate: %zu/%zu\n", good, total);
}

TEST(Accelerate, BalancesBudgetsAsAccelerateDoes) {
  std::size_t good = 0;
  std::size_t total = 0;
  for (const CompactModel& model : oracle()) {
    for (const CompactCase& c : model.cases) {
      if (c.policy == Policy::kSequential) continue;
      std::vector<std::string> notes;
      const std::vector<Budget> got =
          balanced_memory(model.tree, accelerate_order(c.max_memory),
                          c.policy == Policy::kBalancedLow0, false, notes);
      bool same = got.size() >= c.balanced_memory.size();
      for (std::size_t i = 0; same && i < c.balanced_memory.size(); ++i) {
        same = got[i].device == c.balanced_memory[i].device &&
               (got[i].device == "disk" || got[i].bytes == c.balanced_memory[i].bytes);
        EXPECT_TRUE(same) << model.tree.name << " " << c.name << " device " << got[i].device
                          << ": want " << c.balanced_memory[i].bytes << " have " << got[i].bytes;
      }
      ++total;
      good += same ? 1 : 0;
    }
  }
  std::printf("balanced budgets that agree with Accelerate: %zu/%zu\n", good, total);
}

// The fixture of Accelerate's own tests: 64, 72 and 100 bytes.
ModelTree three_layers() {
  ModelTree tree;
  add_module(tree, kNone, "", "ModelForTest");
  const auto first = add_module(tree, 0, "linear1", "Linear");
  add_tensor(tree, first, "weight", DType::kF32, {4, 3});
  add_tensor(tree, first, "bias", DType::kF32, {4});
  const auto norm = add_module(tree, 0, "batchnorm", "BatchNorm1d");
  for (const char* name : {"weight", "bias"}) add_tensor(tree, norm, name, DType::kF32, {4});
  for (const char* name : {"running_mean", "running_var"}) {
    add_tensor(tree, norm, name, DType::kF32, {4}, true);
  }
  add_tensor(tree, norm, "num_batches_tracked", DType::kI64, {}, true);
  const auto second = add_module(tree, 0, "linear2", "Linear");
  add_tensor(tree, second, "weight", DType::kF32, {5, 4});
  add_tensor(tree, second, "bias", DType::kF32, {5});
  return tree;
}

TEST(Accelerate, BalancesItsOwnTestModel) {
  const ModelTree tree = three_layers();
  std::vector<std::string> notes;
  const auto balanced = [&](const std::vector<Budget>& budgets) {
    std::string out;
    for (const Budget& b : balanced_memory(tree, accelerate_order(budgets), false, false, notes)) {
      if (b.device != "disk") out += b.device + ":" + std::to_string(b.bytes) + " ";
    }
    return out;
  };
  EXPECT_EQ(balanced({{"0", 200}, {"1", 200}}), "0:200 1:200 ");
  EXPECT_EQ(balanced({{"0", 200}, {"2", 200}}), "0:200 2:200 ");
  EXPECT_EQ(balanced({{"0", 300}, {"1", 300}}), "0:215 1:300 ");
  EXPECT_EQ(balanced({{"0", 300}, {"1", 500}}), "0:215 1:500 ");
  EXPECT_EQ(balanced({{"0", 300}, {"cpu", 1000}}), "0:300 cpu:1000 ");
  EXPECT_EQ(balanced({{"0", 0}, {"1", 300}, {"2", 300}}), "0:0 1:215 2:300 ");
  EXPECT_EQ(balanced({{"cpu", 100}, {"0", 0}}), "0:0 cpu:100 ");
}

TEST(Accelerate, PlacesEverythingWhereAccelerateCrashes) {
  const ModelTree tree = three_layers();
  const AccelerateResult result =
      accelerate_place(tree, Policy::kBalancedLow0, {{"0", 200}, {"2", 200}, {"3", 200}}, false);
  EXPECT_FALSE(result.notes.empty());
  for (const std::uint32_t device : result.tensor_device) EXPECT_NE(device, kNone);
}

TEST(Accelerate, RefusesDevicesItDoesNotKnow) {
  EXPECT_THROW(accelerate_order({{"tpu", 1}}), Error);
  EXPECT_THROW(accelerate_order({{"0", 1}, {"0", 2}}), Error);
}

}  // namespace
}  // namespace berth

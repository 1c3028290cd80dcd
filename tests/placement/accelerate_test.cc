// Accelerate 1.15's own placements (made with it, on the meta device) are the oracle: a seeded
// sample of random module trees, and fourteen published models.
#include "planner/placement/accelerate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "compact_tree.h"
#include "planner/placement/device_map.h"

namespace berth {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string as_text(const DeviceMap& map) {
  std::map<std::string, std::string> sorted;
  for (const auto& [module, device] : map) sorted[module] = device;
  std::string out;
  for (const auto& [module, device] : sorted) out += module + ":" + device + " ";
  return out;
}

std::vector<CompactModel> oracle() {
  const char* other = std::getenv("BERTH_ACCELERATE_CASES");  // a larger set in the same form
  return read_compact_models(
      other != nullptr ? other : BERTH_SOURCE_DIR "/tests/placement/data/accelerate.json");
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
        const std::string& name = model.tree.tensors[t].name;
        const std::uint32_t want = want_index.find(name);
        const std::uint32_t have = have_index.find(name);
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

}  // namespace
}  // namespace berth

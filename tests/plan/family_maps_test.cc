// Device maps of every family pass what Accelerate asks of them (check_device_map), and more: their
// keys are names of transformers' model, and cover all of its parameters and buffers. What that
// model has is in tests/model/data (tree.txt), made by transformers; check_device_maps.py in this
// folder asks Accelerate itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include "berth/planner.h"
#include "planner/machine/sizes.h"
#include "planner/plan/map_notes.h"
#include "planner/plan/policies.h"
#include "tests/data_names.h"
#include "tests/instance_share.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// The names that transformers gives: of modules, and of parameters and buffers.
struct Names {
  std::set<std::string> modules;
  std::vector<std::string> tensors;

  explicit Names(const fs::path& tree) {
    std::ifstream in(tree);
    std::string module;
    for (std::string line; std::getline(in, line);) {
      if (line.find('\t') == line.npos) continue;  // the count at the end
      const std::string name = line.substr(0, line.find('\t'));
      if (!line.starts_with("  ")) {
        modules.insert(module = name);
      } else {
        tensors.push_back((module.empty() ? "" : module + ".") + name.substr(2));
      }
    }
  }
};

bool covers(const std::string& key, const std::string& name) {
  return key.empty() || name == key ||
         (name.size() > key.size() && name.starts_with(key) && name[key.size()] == '.');
}

void expect_accepted(const DeviceMap& map, const Names& names, const std::string& what) {
  for (const auto& [key, device] : map) {
    const bool known =
        names.modules.count(key) > 0 ||
        std::find(names.tensors.begin(), names.tensors.end(), key) != names.tensors.end();
    EXPECT_TRUE(known) << what << ": " << key << " is no module of transformers' model";
  }
  for (const std::string& tensor : names.tensors) {
    EXPECT_TRUE(
        std::any_of(map.begin(), map.end(),
                    [&](const DeviceMapEntry& entry) { return covers(entry.module, tensor); }))
        << what << ": " << tensor << " has no device";
  }
}

class FamilyMaps : public ::testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return fs::path(BERTH_SOURCE_DIR) / "tests/model/data" / GetParam(); }
  ModelTree tree_ = open_model(folder() / "config.json", std::nullopt).tree;
  Names names_{folder() / "tree.txt"};

  Plan plan(const Request& request) const {
    Machine machine = budget_machine(*request.max_memory);
    fill_defaults(machine);
    return make_plan(tree_, machine, request);
  }

  // Two GPUs that hold a part each, and a host.
  Request tight() const {
    const std::uint64_t all = tree_.bytes();
    Request request;
    request.max_memory =
        std::vector<Budget>{{"0", all * 2 / 5}, {"1", all * 2 / 5}, {"cpu", all}, {"disk", all}};
    return request;
  }
};

TEST_P(FamilyMaps, OfEveryPolicyAreAccepted) {
  static unsigned turn = 0;  // goes on from family to family, so that each policy has some
  for (const Policy policy : all_policies()) {
    if (!is_its_turn(turn, std::min(kInstanceShare, 3))) continue;
    Request request = tight();
    request.policy = policy;
    expect_accepted(plan(request).device_map, names_, std::string(policy_name(policy)));
  }
}

TEST_P(FamilyMaps, WithOverridesOfModulesAndTensorsAreAccepted) {
  const LayerFacts& last = tree_.facts.layers.back();
  ModuleId inside = last.module;  // a module in the middle of a block
  const auto first_child = [&] {  // but for experts, which transformers 5 keeps in one module
    const auto& children = tree_.modules[inside].children;
    const auto found = std::find_if(children.begin(), children.end(),
                                    [&](ModuleId id) { return !tree_.modules[id].expert; });
    return found == children.end() ? kNone : *found;
  };
  for (ModuleId child = first_child(); child != kNone; child = first_child()) inside = child;
  TensorId some = 0;
  while (!tree_.tensors[some].persistent) ++some;
  for (const std::string& match :
       {std::string(tree_.modules[last.module].name), std::string(tree_.modules[inside].name),
        std::string(tree_.tensors[some].name)}) {
    Request request = tight();
    for (Budget& budget : *request.max_memory) budget.bytes *= 4;
    request.overrides = {{match, "disk"}};
    expect_accepted(plan(request).device_map, names_, match);
  }
}

// What is printed for a map that was given covers what it leaves out.
TEST_P(FamilyMaps, ThatAreGivenWithTheLeastAreCompleted) {
  Request request = tight();
  for (Budget& budget : *request.max_memory) budget.bytes *= 4;
  request.policy = Policy::kDeviceMap;
  request.device_map.emplace();
  for (const ModelTensor& tensor : tree_.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    const std::string module(tree_.modules[tensor.module].name);
    const std::string key =
        module.empty() || tree_.modules[tensor.module].expert ? std::string(tensor.name) : module;
    const bool fused = key.find(".experts.") != key.npos;
    const std::string shorter = fused ? key.substr(0, key.find(".experts.") + 8) : key;
    if (!request.device_map->empty() && request.device_map->back().module == shorter) continue;
    request.device_map->push_back({shorter, request.device_map->size() % 2 == 0 ? "0" : "1"});
  }
  expect_accepted(plan(request).device_map, names_, "least");
}

// Maps of the base model lack what stands before its modules' names, and others have it too much.
TEST_P(FamilyMaps, MayLackOrAddTheNameOfTheBaseModel) {
  Request request = tight();
  request.policy = Policy::kBalanced;
  const Plan first = plan(request);
  request.policy = Policy::kDeviceMap;
  const auto expect_the_same = [&](const std::function<std::string(const std::string&)>& change) {
    request.device_map.emplace();
    for (const auto& [key, device] : first.device_map) {
      request.device_map->push_back({change(key), device});
    }
    const Plan again = plan(request);
    EXPECT_EQ(again.tensor_device, first.tensor_device);
    expect_accepted(again.device_map, names_, "translated");
  };
  expect_the_same([](const std::string& key) { return key.empty() ? key : "wrapped." + key; });
  // Without the first component, where what is left is not the name of something else.
  std::set<std::string> ends;
  bool ambiguous = false;
  const auto without_first = [](const std::string& key) {
    return key.find('.') == key.npos ? key : key.substr(key.find('.') + 1);
  };
  for (const auto& [key, device] : first.device_map) {
    const std::string end = without_first(key);
    std::size_t count = 0;
    for (const Module& module : tree_.modules) {
      count += module.name == end || module.name.ends_with("." + end) ? 1 : 0;
    }
    for (const ModelTensor& tensor : tree_.tensors) {
      count += tensor.name == end || tensor.name.ends_with("." + end) ? 1 : 0;
    }
    const bool number = std::isdigit(static_cast<unsigned char>(end.empty() ? 'x' : end[0])) != 0;
    ambiguous = ambiguous || count != 1 || number || !ends.insert(end).second;
  }
  if (!ambiguous) expect_the_same(without_first);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, FamilyMaps,
                         ::testing::ValuesIn(testing::data_names("tests/model/data", "/tree.txt")),
                         test_name);

}  // namespace
}  // namespace berth

#include "planner/plan/device_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/planner/compact_tree.h"

namespace berth {
namespace {

using testing::HasSubstr;

std::string found(const DeviceMap& map, const std::string& name) {
  const std::string* device = lookup(map, name);
  return device == nullptr ? "-" : *device;
}

TEST(DeviceMap, ReadsNumbersAndStringsAlike) {
  const DeviceMap map = parse_device_map(
      R"({"a": 0, "b": "1", "c": "cuda:2", "d": "cpu", "e": "disk", "f": "cuda"})", "map.json");
  std::string devices;
  for (const DeviceMapEntry& entry : map) devices += entry.module + entry.device + " ";
  EXPECT_EQ(devices, "a0 b1 c2 dcpu edisk f0 ");
}

TEST(DeviceMap, PrintsWhatItReads) {
  const DeviceMap map{{"model.layers.0", "0"}, {"odd\"name", "cpu"}, {"", "disk"}};
  const std::string json = device_map_json(map);
  EXPECT_EQ(json, "{\n  \"model.layers.0\": 0,\n  \"odd\\\"name\": \"cpu\",\n  \"\": \"disk\"\n}");
  const DeviceMap again = parse_device_map(json, "again");
  ASSERT_EQ(again.size(), 3u);
  EXPECT_EQ(again[1].module, map[1].module);
}

TEST(DeviceMap, NamesThePlaceOfEveryMistake) {
  for (const auto& [json, words] :
       std::vector<std::pair<std::string, std::string>>{{"[1]", "a device map is a JSON object"},
                                                        {"{\"a\": 0", "not valid JSON"},
                                                        {"{}", "is empty"},
                                                        {"{\"a\": 1.5}", "key \"a\": not a device"},
                                                        {"{\"a\": -1}", "not a device"},
                                                        {"{\"a\": null}", "not a device"},
                                                        {"{\"a\": {\"b\": 0}}", "not a device"},
                                                        {"{\"a\": \"\"}", "empty string"},
                                                        {"{\"a\": 0, \"a\": 1}", "given twice"},
                                                        {"", "not valid JSON"}}) {
    try {
      parse_device_map(json, "map.json");
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("map.json")) << json;
      EXPECT_THAT(error.what(), HasSubstr(words)) << json;
    }
  }
}

TEST(DeviceMap, LooksUpTheLongestDottedPrefix) {
  const DeviceMap map{{"", "9"}, {"model.layers.1", "1"}, {"model", "0"}, {"lm_head", "cpu"}};
  EXPECT_EQ(found(map, "model.layers.1.mlp.weight"), "1");
  EXPECT_EQ(found(map, "model.layers.1"), "1");
  EXPECT_EQ(found(map, "model.layers.10.mlp.weight"), "0");  // "1" is no prefix of "10"
  EXPECT_EQ(found(map, "model_extra.weight"), "9");
  EXPECT_EQ(found(DeviceMap{{"model", "0"}}, "models.weight"), "-");
}

TEST(DeviceMap, TakesRegularExpressions) {
  const DeviceMap map{
      {"model\\.layers\\.(\\d|1\\d)", "0"}, {"model.layers.2[0-9]", "1"}, {"", "cpu"}};
  EXPECT_EQ(found(map, "model.layers.7.mlp.weight"), "0");
  EXPECT_EQ(found(map, "model.layers.13.mlp.weight"), "0");
  EXPECT_EQ(found(map, "model.layers.25.mlp.weight"), "1");
  EXPECT_EQ(found(map, "model.layers.35.mlp.weight"), "cpu");
  EXPECT_THROW(found({{"layers.(", "0"}}, "layers.1"), Error);
}

TEST(DeviceMap, LooksAheadAndBehind) {
  const DeviceMap map{{"model\\.layers\\.(?!1\\d)\\d+", "0"}, {".*(?<!up)_proj", "1"}, {"", "cpu"}};
  EXPECT_EQ(found(map, "model.layers.7.mlp.weight"), "0");
  EXPECT_EQ(found(map, "model.layers.13.mlp.weight"), "cpu");
  EXPECT_EQ(found(map, "head.down_proj.weight"), "1");
  EXPECT_EQ(found(map, "head.up_proj.weight"), "cpu");
  EXPECT_THROW(found({{"(?=(.*)*(x+x+)+y)", "0"}}, "layers." + std::string(200, 'x')), Error);
}

TEST(DeviceMap, IsNotHeldUpByARegularExpression) {
  const DeviceMap slow{{"(a+)+b", "0"}, {"(.*.*.*.*.*.*)*x", "0"}, {"", "cpu"}};
  EXPECT_EQ(DeviceMapIndex(slow).find(std::string(64, 'a')), 2u);
  const DeviceMap deep{{std::string(20'000, '(') + std::string(20'000, ')'), "0"}};
  EXPECT_THROW(DeviceMapIndex{deep}, Error);
}

TEST(DeviceMap, MatchesGlobs) {
  EXPECT_TRUE(glob_matches("model.layers.2?.*", "model.layers.25.mlp.weight"));
  EXPECT_FALSE(glob_matches("model.layers.2?.*", "model.layers.5.mlp.weight"));
  EXPECT_TRUE(glob_matches("*.experts.*", "a.mlp.experts.3.w"));
  EXPECT_TRUE(glob_matches("layers.[0-3]", "layers.2"));
  EXPECT_FALSE(glob_matches("layers.[!0-3]", "layers.2"));
  EXPECT_TRUE(glob_matches("layers.[!0-3]", "layers.7"));
  EXPECT_TRUE(glob_matches("a[", "a["));
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_FALSE(glob_matches("", "a"));
  EXPECT_TRUE(glob_matches("*a*a*a*b", "aaaaaaaaab"));
}

TEST(DeviceMap, CollapsesToModulesAndCoversEverything) {
  ModelTree tree;
  add_module(tree, kNone, "", "Root");
  const auto a = add_module(tree, 0, "a", "Group");
  for (int i = 0; i < 3; ++i) {
    const auto leaf = add_module(tree, a, std::to_string(i), "Leaf");
    add_tensor(tree, leaf, "w", DType::kF32, {4});
  }
  add_module(tree, a, "drop", "Dropout");
  const auto b = add_module(tree, 0, "b", "Leaf");
  add_tensor(tree, b, "w", DType::kF32, {4});
  add_tensor(tree, b, "mask", DType::kBool, {4}, true);
  const std::vector<std::string> devices{"0", "1"};
  const auto text = [&](const std::vector<std::uint32_t>& placed) {
    std::string out;
    for (const auto& [module, device] : collapse_device_map(tree, placed, devices)) {
      out += module + ":" + device + " ";
    }
    return out;
  };
  EXPECT_EQ(text({0, 0, 0, 0, 0}), ":0 ");
  EXPECT_EQ(text({0, 0, 0, 1, 1}), "a:0 b:1 ");
  EXPECT_EQ(text({0, 0, 1, 1, 1}), "a.0:0 a.1:0 a.2:1 a.drop:1 b:1 ");
  EXPECT_EQ(text({0, 0, 0, 1, 0}), "a:0 b.w:1 b.mask:0 ");
}

TEST(DeviceMap, NoPatternHoldsUpALookup) {
  const DeviceMap map{{"(.*)*(.*)*(.*)*(x+x+)+y", "cpu"}, {"", "0"}};
  const DeviceMapIndex index(map);
  EXPECT_EQ(index.find("model.layers." + std::string(200, 'x') + ".weight"), 1u);
  const DeviceMap endless{{std::string(100'000, '('), "cpu"}};
  EXPECT_THROW(DeviceMapIndex{endless}, Error);
}

}  // namespace
}  // namespace berth

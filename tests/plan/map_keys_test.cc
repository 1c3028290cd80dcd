// Keys of device maps that are not quite the names of this model's modules, and what is printed for
// maps that were given.
#include "planner/plan/map_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/plan/device_map.h"
#include "planner/plan/map_notes.h"

namespace berth {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ModelTree family(const std::string& name) {
  return open_model(
             std::filesystem::path(BERTH_SOURCE_DIR) / "tests/model/data" / name / "config.json",
             std::nullopt)
      .tree;
}

// What the keys become, with "-" for one that names nothing.
std::string settled(const ModelTree& tree, const std::vector<std::string>& keys) {
  DeviceMap map;
  for (const std::string& key : keys) map.push_back({key, "0"});
  const MapKeys found = settle_keys(tree, map);
  std::string out;
  for (const DeviceMapEntry& entry : found.map) out += "[" + entry.module + "]";
  for (const std::string& key : found.unknown) out += " -" + key;
  return out;
}

TEST(MapKeys, StayAsTheyAreWhereTheyNameSomething) {
  const ModelTree tree = family("llama-0");
  const std::vector<std::string> keys{
      "", "model", "model.layers.1", "model.norm.weight", "lm_head", "model\\.layers\\.(0|1)"};
  EXPECT_EQ(settled(tree, keys),
            "[][model][model.layers.1][model.norm.weight][lm_head]"
            "[model\\.layers\\.(0|1)]");
}

TEST(MapKeys, OfOlderReleasesAndOfTheBaseModelAreFoundByTheirEnd) {
  EXPECT_EQ(settled(family("qwen2_5_vl-0"), {"visual", "model.layers.1", "model.norm"}),
            "[model.visual][model.language_model.layers.1][model.language_model.norm]");
  EXPECT_EQ(settled(family("gemma3-0"),
                    {"vision_tower", "language_model.model.layers.1", "language_model.lm_head"}),
            "[model.vision_tower][model.language_model.layers.1][lm_head]");
  EXPECT_EQ(settled(family("llama-0"), {"layers.1", "embed_tokens", "norm"}),
            "[model.layers.1][model.embed_tokens][model.norm]");
  EXPECT_EQ(settled(family("llama-2"), {"model.layers.1", "model.embed_tokens", "model"}),
            "[layers.1][embed_tokens][]");
  EXPECT_EQ(settled(family("gpt2-0"), {"h.1", "wte"}), "[transformer.h.1][transformer.wte]");
}

TEST(MapKeys, AreNotGuessed) {
  const ModelTree tree = family("llama-0");
  EXPECT_EQ(settled(tree, {"model.layers.77", "transformer.h.0", "q_proj", "spare", "1"}),
            " -model.layers.77 -transformer.h.0 -q_proj -spare -1");
  // The key that is a name counts, and another one that would mean the same does not.
  EXPECT_EQ(settled(tree, {"layers.1", "model.layers.1"}), "[model.layers.1] -layers.1");
}

TEST(MapKeys, SayWhatIsNear) {
  const ModelTree tree = family("llama-0");
  EXPECT_EQ(nearest_module(tree, "model.layer.1"), "model.layers.1");
  EXPECT_EQ(nearest_module(tree, "model.layers.1.self_attention.q"), "model.layers.1.self_attn");
  EXPECT_EQ(nearest_module(tree, "model.layers.1.a.long.way.from.here"), "model.layers.1");
  EXPECT_EQ(nearest_module(tree, "decoder"), "");
}

struct Given {
  ModelTree tree;
  Machine machine = budget_machine({{"0", 1 << 30}, {"1", 1 << 30}, {"cpu", 1 << 30}});
  Request request;

  Given(const std::string& name, DeviceMap map) : tree(family(name)) {
    fill_defaults(machine);
    request.policy = Policy::kDeviceMap;
    request.device_map = std::move(map);
  }
  Plan plan() const { return make_plan(tree, machine, request); }
  std::string error() const {
    try {
      plan();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string at(const Plan& plan, std::string_view tensor) const {
    for (TensorId t = 0; t < tree.tensors.size(); ++t) {
      if (tree.tensors[t].name == tensor) return plan.devices[plan.tensor_device[t]].name;
    }
    return "no such tensor";
  }
};

TEST(GivenMaps, MayLeaveOutATiedHead) {
  const Given given("llama-1", {{"model", "1"}});
  const Plan plan = given.plan();
  EXPECT_EQ(given.at(plan, "lm_head.weight"), "1");
  EXPECT_THAT(plan.notes,
              Contains("device map: no key covers lm_head.weight, which is tied to what "
                       "one does cover, and goes with it"));
  EXPECT_EQ(device_map_json(plan.device_map), "{\n  \"model\": 1,\n  \"lm_head\": 1\n}");
}

TEST(GivenMaps, LetAChildOverrideItsParent) {
  const Given given("llama-0", {{"model", "0"},
                                {"model.layers.1", "1"},
                                {"lm_head", "cpu"},
                                {"model.layers.1.mlp.up_proj.weight", "cpu"}});
  const Plan plan = given.plan();
  EXPECT_EQ(given.at(plan, "model.layers.0.mlp.up_proj.weight"), "0");
  EXPECT_EQ(given.at(plan, "model.layers.1.mlp.down_proj.weight"), "1");
  EXPECT_EQ(given.at(plan, "model.layers.1.mlp.up_proj.weight"), "cpu");
  EXPECT_EQ(plan.device_map.size(), 4u);
}

TEST(GivenMaps, AreTranslatedInWhatIsPrinted) {
  const Given given("qwen2_5_vl-0",
                    {{"visual", "cpu"}, {"model", "0"}, {"lm_head", "1"}, {"spare.thing", "0"}});
  const Plan plan = given.plan();
  EXPECT_EQ(given.at(plan, "model.visual.merger.ln_q.weight"), "cpu");
  EXPECT_EQ(device_map_json(plan.device_map),
            "{\n  \"model.visual\": \"cpu\",\n  \"model\": 0,\n  \"lm_head\": 1\n}");
  EXPECT_THAT(plan.notes, Contains("device map: key 'visual' is taken as 'model.visual'"));
  EXPECT_THAT(plan.notes,
              Contains("device map: key 'spare.thing' names no module of this model; ignored"));
}

TEST(GivenMaps, ThatAreRefusedNameTheKeyAndWhatIsNear) {
  EXPECT_EQ(Given("llama-0", {{"model.embed_tokens", "0"}, {"model.layer", "0"}, {"lm_head", "0"}})
                .error(),
            "device map: no key covers model.layers.0.self_attn.q_proj.weight, "
            "model.layers.0.self_attn.k_proj.weight, model.layers.0.self_attn.v_proj.weight, "
            "model.layers.0.self_attn.o_proj.weight, and 24 more; a key that names nothing is "
            "'model.layer' (near it is 'model.layers') (the key \"\" covers everything)");
  EXPECT_THAT(Given("llama-0", {{"transformer.h", "0"}}).error(), HasSubstr("another model"));
  EXPECT_THAT(Given("llama-0", {{"", "mps"}}).error(),
              HasSubstr("key '': there is no device 'mps'"));
  EXPECT_THAT(Given("llama-0", {{"", "mps"}}).error(),
              HasSubstr("not for torch's device 'mps': write 0 for its first one"));
  EXPECT_THAT(Given("llama-0", {{"", "xpu:1"}}).error(), HasSubstr("torch's device 'xpu'"));
  EXPECT_THAT(Given("llama-0", {{"", "7"}}).error(), HasSubstr("no device '7' on"));
}

TEST(WholeMaps, AreADeviceOrAPolicy) {
  const auto parsed = [](const std::string& json) {
    const DeviceMap map = parse_device_map(json, "map.json");
    return map.size() == 1 && map[0].module.empty() ? map[0].device : "a map";
  };
  EXPECT_EQ(parsed("\"cuda:1\""), "1");
  EXPECT_EQ(parsed("3"), "3");
  EXPECT_EQ(parsed("\"cpu\""), "cpu");
  EXPECT_EQ(parsed("\"auto\""), "auto");
  EXPECT_EQ(parsed("\"mps\""), "mps");
  EXPECT_THROW(parsed("-1"), Error);
  EXPECT_THROW(parsed("\"fast\""), Error);
  EXPECT_THROW(parsed("1.5"), Error);
  EXPECT_EQ(policy_of(DeviceMap{{"", "auto"}}), Policy::kBalanced);
  EXPECT_EQ(policy_of(DeviceMap{{"", "balanced_low_0"}}), Policy::kBalancedLow0);
  EXPECT_EQ(policy_of(DeviceMap{{"", "sequential"}}), Policy::kSequential);
  EXPECT_EQ(policy_of(DeviceMap{{"", "cpu"}}), std::nullopt);
  EXPECT_EQ(policy_of(DeviceMap{{"a", "auto"}}), std::nullopt);
}

std::vector<std::string> notes_of(const Given& given) {
  return device_map_notes(given.tree, given.plan());
}

TEST(MapNotes, SayWhereTransformersFails) {
  const DeviceMap rest{{"model", "0"}, {"lm_head", "0"}};
  const auto with = [&](DeviceMap map) {
    map.insert(map.end(), rest.begin(), rest.end());
    return Given("llama-0", map);
  };
  EXPECT_THAT(notes_of(with({{"model.layers.1", "1"}})), IsEmpty());
  EXPECT_THAT(notes_of(with({{"model.layers.1.mlp", "cpu"}})), IsEmpty())
      << "one GPU computes both";
  EXPECT_THAT(
      notes_of(with({{"model.layers.1.mlp", "1"}, {"model.layers.2.mlp", "1"}})),
      ElementsAre("device map: Accelerate takes it, but in transformers a forward pass fails "
                  "where parts of a layer are computed on two devices: model.layers.1 (gpu "
                  "0; gpu 1), and 1 more"));
  EXPECT_THAT(notes_of(with({{"model.layers.1", "1"}, {"model.layers.1.mlp", "cpu"}})),
              ElementsAre(HasSubstr("model.layers.1 (gpu 1; cpu, computed on gpu 0)")));
}

TEST(MapNotes, SayThatExpertsOfALayerStandTogether) {
  const Given given("mixtral-0", {{"", "0"}, {"model.layers.1.mlp.experts.2", "1"}});
  EXPECT_THAT(notes_of(given),
              Contains(HasSubstr("keeps the experts of a layer in one module, which "
                                 "cannot be divided: model.layers.1.mlp.experts")));
}

}  // namespace
}  // namespace berth

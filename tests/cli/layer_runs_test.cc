#include "cli/report/layer_runs.h"

#include <gmock/gmock.h>

#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> names(const std::vector<LayerRun>& runs) {
  std::vector<std::string> out;
  for (const LayerRun& run : runs) out.push_back(run.name);
  return out;
}

// A plan that puts the named modules on devices, 1 GiB each.
Planned placed(const std::vector<std::pair<std::string, std::uint32_t>>& modules) {
  Planned planned;
  const ModuleId root = testing::add_module(planned.model.tree, "", kNone);
  for (const auto& [name, device] : modules) {
    const ModuleId id = testing::add_weight(planned.model.tree, name, root, 1);
    planned.plan.placement.push_back({id, device, testing::kGiB, ""});
  }
  planned.plan.devices.resize(3);
  return planned;
}

TEST(LayerRuns, CollapsesNeighboursAndTellsDevicesApart) {
  const Planned planned = testing::made_plan();
  const std::vector<LayerRun> runs = layer_runs(planned.model.tree, planned.plan);
  EXPECT_THAT(names(runs), ElementsAre("model.embed_tokens", "model.layers.0-3", "model.norm",
                                       "lm_head", "model.layers.4-5"));
  EXPECT_EQ(runs[1].short_name, "layers.0-3");
  EXPECT_EQ(runs[1].count, 4u);
  EXPECT_EQ(runs[1].bytes, 8 * testing::kGiB);
  EXPECT_EQ(runs[3].short_name, "lm_head");
  EXPECT_EQ(runs[4].reason, "gpu 0 is full");
}

TEST(LayerRuns, TellsGapsByCommas) {
  const Planned planned = placed({{"h.0", 0}, {"h.1", 0}, {"h.3", 0}, {"h.4", 0}, {"h.2", 1}});
  EXPECT_THAT(names(layer_runs(planned.model.tree, planned.plan)), ElementsAre("h.0-1,3-4", "h.2"));
}

TEST(LayerRuns, NamesTheFirstAndTheLastOfManyPieces) {
  std::vector<std::pair<std::string, std::uint32_t>> modules;
  for (int i = 0; i < 40; ++i) modules.emplace_back("h." + std::to_string(i), i % 2);
  const Planned planned = placed(modules);
  const std::vector<LayerRun> runs = layer_runs(planned.model.tree, planned.plan);
  EXPECT_THAT(names(runs), ElementsAre("h.0,2,4,...,38", "h.1,3,5,...,39"));
  EXPECT_EQ(runs[0].count, 20u);
  EXPECT_EQ(runs[0].bytes, 20 * testing::kGiB);
}

TEST(LayerRuns, TellsALayerWhoseExpertsStandElsewhereInTwoPieces) {
  const Planned planned = testing::cut_layers(4);
  const std::vector<LayerRun> runs = layer_runs(planned.model.tree, planned.plan);
  EXPECT_THAT(names(runs), ElementsAre("model.layers.0-3 rest", "model.layers.0-3 experts"));
  EXPECT_EQ(runs[0].short_name, "0-3 rest");
  EXPECT_EQ(runs[0].count, 4u);
  EXPECT_EQ(runs[0].least, 2 * testing::kGiB) << "what is left of one layer, not one module";
  EXPECT_EQ(runs[1].bytes, 24 * testing::kGiB);
  EXPECT_EQ(runs[1].device, 1u);
}

TEST(LayerRuns, NamesModulesWhereALayerIsCutInOtherWays) {
  Planned planned = testing::cut_layers(2);
  for (ModulePlacement& placed : planned.plan.placement) {
    if (planned.model.tree.modules[placed.module].name.find("gate") != std::string::npos) {
      placed.device = 1;  // attention on one device, router and experts on another
    }
  }
  EXPECT_THAT(names(layer_runs(planned.model.tree, planned.plan)),
              ElementsAre("model.layers.0-1.self_attn", "model.layers.0-1.mlp.gate",
                          "model.layers.0-1.mlp.experts"));
}

TEST(LayerRuns, CollapsesPartsOfLayersAndExpertsOfLayers) {
  std::vector<std::pair<std::string, std::uint32_t>> modules;
  for (const std::string layer : {"0", "1", "2"}) {
    modules.emplace_back("model.layers." + layer + ".self_attn", 0);
    for (const std::string expert : {"0", "1", "2", "3"}) {
      modules.emplace_back("model.layers." + layer + ".mlp.experts." + expert, 1);
    }
  }
  const Planned planned = placed(modules);
  const std::vector<LayerRun> runs = layer_runs(planned.model.tree, planned.plan);
  EXPECT_THAT(names(runs),
              ElementsAre("model.layers.0-2.self_attn", "model.layers.0-2.mlp.experts.0-3"));
  EXPECT_EQ(runs[1].count, 12u);
}

TEST(LayerRuns, NamesAModelThatIsOnePiece) {
  Planned planned = placed({});
  planned.plan.placement.push_back({0, 0, testing::kGiB, ""});
  EXPECT_THAT(names(layer_runs(planned.model.tree, planned.plan)),
              ElementsAre("(the whole model)"));
}

}  // namespace
}  // namespace berth

// Compares what a run computes with, for a config.json that leaves a key out or says it elsewhere,
// with transformers. tests/model compares the trees of the same configs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "berth/error.h"
#include "planner/model/open/build_model_tree.h"
#include "runtime/program/recipe.h"
#include "tests/model/default_cases.h"

namespace berth {
namespace {

using test::DefaultCase;
using test::FoldedLines;
using Lines = std::vector<std::string>;
using ::testing::AnyOf;
using ::testing::HasSubstr;

Model opened(const std::string& text) {
  Model model;
  Skeleton skeleton = build_skeleton(ModelConfig::parse(text, "config.json"), std::nullopt);
  model.config = skeleton.config;
  model.tree = join_model_tree(std::move(skeleton), "m", nullptr, std::nullopt, Dequantize::kNo);
  return model;
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2)));
    case Activation::kGeluTanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kReluSquared:
      return std::max(x, 0.0) * std::max(x, 0.0);
    case Activation::kXielu:
      break;  // has weights
  }
  return 0;
}

// The first eight and the last two.
std::string frequencies(const std::vector<float>& all) {
  std::string out = fmt::format("run rope {}:", all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i < 8 || i + 2 >= all.size()) out += " " + number(all[i]);
  }
  return out;
}

std::string ends(const ModelConfig& config) {
  const auto* list = config.find_list("eos_token_id");
  if (list == nullptr) {
    const auto id = config.integer("eos_token_id");
    return id ? std::to_string(*id) : "null";
  }
  return fmt::format("a list of {}", list->size());
}

Lines described(const Model& model) {
  const Recipe recipe = make_recipe(model);
  Lines lines{
      fmt::format("run heads {}", recipe.heads),
      fmt::format("run kv_heads {}", recipe.kv_heads),
      fmt::format("run head_dim {}", recipe.head_dim),
      "run eps " + number(recipe.norm_eps),
      fmt::format("run caps {} {}", number(recipe.attention_softcap), number(recipe.logit_softcap)),
      "run embedding_scale " + number(recipe.embedding_scale),
      "run ends " + ends(*model.config)};
  std::string activation = "run activation";
  for (const double x : {-2.0, -0.5, 0.5, 2.0}) {
    activation += " " + number(activated(recipe.activation, x));
  }
  lines.push_back(activation);
  for (const Rotary& rotary : recipe.rotaries) {
    lines.push_back(frequencies(rotary.inverse_frequency));
  }
  if (recipe.routing.experts > 0) {
    lines.push_back(
        fmt::format("run experts {} of {}", recipe.routing.picked, recipe.routing.experts));
  }
  FoldedLines folded;
  for (std::size_t i = 0; i < recipe.layers.size(); ++i) {
    folded.add("run scale ", i, " " + number(recipe.layers[i].attention_scale));
    folded.add("run window ", i, " " + std::to_string(recipe.layers[i].window));
  }
  const Lines of_layers = folded.take();
  lines.insert(lines.end(), of_layers.begin(), of_layers.end());
  lines.push_back("run residual_scale " + number(recipe.residual_scale));
  lines.push_back("run logit_scale " + number(recipe.logit_scale));
  lines.push_back("run clip " + number(recipe.clip));
  const Routing& routing = recipe.routing;
  lines.push_back("run routed_scale " + number(routing.scale));
  lines.push_back(fmt::format("run norm_topk {}", routing.normalized ? 1 : 0));
  lines.push_back(fmt::format("run groups {} of {}", routing.picked_groups, routing.groups));
  return lines;
}

// Two lines are the same if their words are, numbers to a part in ten thousand.
bool alike(const std::string& a, const std::string& b) {
  std::istringstream left(a), right(b);
  std::string x, y;
  while (left >> x) {
    if (!(right >> y)) return false;
    if (x == y) continue;
    char* end_x = nullptr;
    char* end_y = nullptr;
    const double p = std::strtod(x.c_str(), &end_x), q = std::strtod(y.c_str(), &end_y);
    if (*end_x != '\0' || *end_y != '\0' || std::abs(p - q) > 1e-4 * std::abs(q)) return false;
  }
  return !(right >> y);
}

void compare(const Lines& found, const Lines& wanted) {
  for (const std::string& line : wanted) {
    if (!line.starts_with("run ") || line.starts_with("run rope_type ")) continue;
    EXPECT_TRUE(std::ranges::any_of(found, [&](const auto& one) { return alike(one, line); }))
        << "transformers: " << line << "\nfound:\n  "
        << fmt::format("{}", fmt::join(found, "\n  "));
  }
}

class Defaults : public testing::TestWithParam<const char*> {};

TEST_P(Defaults, AreThoseOfTransformersForEveryKeyLeftOut) {
  for (const DefaultCase& one : test::default_cases(GetParam())) {
    SCOPED_TRACE(one.name);
    try {
      const Lines found = described(opened(one.config));
      EXPECT_FALSE(one.has("run fails")) << "transformers cannot run it";
      // What transformers refuses may be run if no run depends on the refused key.
      compare(found, one.fails ? one.base : one.lines);
    } catch (const Error& error) {
      const std::string message = error.what();
      const bool unsupported = message.find(" cannot be run (") != message.npos ||
                               message.ends_with(": true cannot be run");
      EXPECT_TRUE(one.fails || one.has("run fails") || unsupported) << message;
      if (one.keys.size() == 1 && !unsupported) {
        EXPECT_THAT(message, AnyOf(HasSubstr(one.keys[0]), HasSubstr("rope_parameters.")));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Defaults,
                         testing::Values("gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3",
                                         "mixtral", "gemma2"),
                         [](const auto& family) { return std::string(family.param); });

// run_defaults.txt, which make_run_defaults.py writes: a config.json for each family that has
// nothing but what the family needs, and what transformers computes with.
struct RunDefault {
  std::string config;
  Lines lines;
};

std::map<std::string, RunDefault> read_run_defaults() {
  std::ifstream in(std::filesystem::path(BERTH_SOURCE_DIR) / "tests/exec/run_defaults.txt");
  std::map<std::string, RunDefault> found;
  RunDefault* last = nullptr;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("= ")) {
      const std::string text = line.substr(2);
      last = &found[ModelConfig::parse(text, "config.json").model_type()];
      last->config = text;
    } else if (last != nullptr) {
      last->lines.push_back(line);
    }
  }
  return found;
}

class RunDefaults : public testing::TestWithParam<std::string> {};

TEST_P(RunDefaults, AreThoseOfTransformersWhereAllKeysAreLeftOut) {
  const auto all = read_run_defaults();
  const auto found = all.find(GetParam());
  ASSERT_NE(found, all.end()) << "run make_run_defaults.py";
  compare(described(opened(found->second.config)), found->second.lines);
}

std::vector<std::string> names_of_families() {
  std::set<std::string> names;
  for (const Family& family : families()) names.emplace(family.model_type);
  return {names.begin(), names.end()};
}

INSTANTIATE_TEST_SUITE_P(All, RunDefaults, testing::ValuesIn(names_of_families()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace berth

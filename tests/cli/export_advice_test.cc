// Every machine of configs/hardware, every model of configs/models, every policy and every tool (on
// each machine one in kShare of them, others on each; all with BERTH_ALL_EXPORTS=1):
// the arguments are consistent, and what they make the tool do fits; or there is advice, and what
// it says works. The advice is followed as a user follows it, by flags on the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>
#include <sstream>

#include "cli/options/command_line.h"
#include "cli/planning.h"
#include "planner/export/advice.h"
#include "planner/plan/kv_cache.h"
#include "planner/try_plan.h"
#include "tests/cli/temporary_folder.h"
#include "tests/data_names.h"
#include "tests/export/played.h"
#include "tests/instance_share.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using testing::Played;

using Words = std::vector<std::string>;

Words cut(const std::string& text, char at = ' ') {
  Words words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, at);) words.push_back(word);
  return words;
}

// `command` with the flags of `advice` in place of those of the same name.
Words follow(Words command, const std::string& advice) {
  const auto drop = [&](const std::string& flag, bool with_value) {
    const auto found = std::find(command.begin(), command.end(), flag);
    if (found != command.end()) command.erase(found, found + (with_value ? 2 : 1));
  };
  const Words words = cut(advice);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "in") {  // "--llama-cpp in place of --vllm"
      drop(words.at(i + 3), false);
      i += 3;
      continue;
    }
    const bool value =
        i + 1 < words.size() && !words[i + 1].starts_with("--") && words[i + 1] != "in";
    drop(words[i], value);
    command.push_back(words[i]);
    if (value) command.push_back(words[++i]);
  }
  return command;
}

struct Answer {
  Planned planned;
  Advised advised;
  ExportTool tool;
};

Answer ask(const Words& command) {
  std::vector<const char*> arguments{"berth"};
  for (const std::string& word : command) arguments.push_back(word.c_str());
  const Options options =
      *parse_command_line(static_cast<int>(arguments.size()), arguments.data()).options;
  Planned planned = open_planned(options);
  planned.plan = try_plan(planned.model.tree, planned.machine, planned.request);
  const ModelTree& tree = planned.model.tree;
  const ExportRow& row = kExports[static_cast<std::size_t>(options.exports.at(0))];
  Advised advised = export_with_advice(
      row, tree, planned.machine, planned.request, planned.plan,
      [&](const Machine& on, const Request& asked) { return try_plan(tree, on, asked); });
  return {std::move(planned), std::move(advised), row.tool};
}

// Of a layer: bytes of its experts and of everything else.
struct LayerBytes {
  std::uint64_t rest = 0;
  std::uint64_t experts = 0;
};

struct ModelBytes {
  std::vector<LayerBytes> layers;
  std::uint64_t before = 0;  // the embedding, and whatever else is registered before the layers
  std::uint64_t after = 0;
  std::uint64_t towers = 0;  // what runs for the prompt alone

  explicit ModelBytes(const ModelTree& tree) : layers(tree.facts.layers.size()) {
    for (const ModelTensor& tensor : tree.tensors) {
      if (!tensor.persistent || tensor.tied_to != kNone) continue;
      std::uint32_t layer = kNone;
      bool expert = false;
      bool tower = false;
      for (ModuleId m = tensor.module; m != kNone; m = tree.modules[m].parent) {
        expert = expert || tree.modules[m].expert;
        tower = tower || tree.modules[m].prompt_only;
        for (std::uint32_t i = 0; i < tree.facts.layers.size(); ++i) {
          if (tree.facts.layers[i].module == m) layer = i;
        }
      }
      if (tower) {
        towers += tensor.bytes();
      } else if (layer == kNone) {
        (tensor.module == tree.facts.embedding ? before : after) += tensor.bytes();
      } else {
        (expert ? layers[layer].experts : layers[layer].rest) += tensor.bytes();
      }
    }
  }
};

void expect_fits(const Plan& plan, const std::string& device, std::uint64_t bytes) {
  for (const DeviceLedger& row : plan.devices) {
    if (!is_gpu(row.kind) || "CUDA" + row.name != device) continue;
    EXPECT_LE(bytes + row.workspace + row.reserved, row.capacity) << device;
    return;
  }
  EXPECT_EQ(device, "CPU");
}

void expect_llama_cpp(const Answer& answer) {
  const ModelTree& tree = answer.planned.model.tree;
  const Plan& plan = answer.planned.plan;
  const std::size_t layers = tree.facts.layers.size();
  const std::string& words = answer.advised.words->arguments;
  const Played played(words, layers);
  EXPECT_LE(played.offloaded(), layers + 1);
  const ModelBytes model(tree);
  std::map<std::string, std::uint64_t> held;
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string name = "blk." + std::to_string(i);
    held[played.tensor(name + ".attn_q.weight", i)] += model.layers[i].rest;
    held[played.tensor(name + ".ffn_up_exps.weight", i)] += model.layers[i].experts;
    held[played.layer_device(i)] += kv_cache_bytes(tree.facts.layers[i], plan.workload);
  }
  held[played.tensor("output.weight", layers)] += model.after;
  held[played.tower_device()] += model.towers;
  for (const auto& [device, bytes] : held) expect_fits(plan, device, bytes);
}

void expect_vllm(const Answer& answer) {
  const ModelTree& tree = answer.planned.model.tree;
  const Plan& plan = answer.planned.plan;
  const std::string& variables = answer.advised.words->environment;
  const std::string name = "VLLM_PP_LAYER_PARTITION=";
  std::vector<std::size_t> counts;
  for (const std::string& n : cut(variables.substr(variables.find(name) + name.size()), ',')) {
    counts.push_back(std::stoul(n));
  }
  const std::size_t layers = tree.facts.layers.size();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::size_t{0}), layers);
  const Words words = cut(answer.advised.words->arguments);
  const auto value = [&](const std::string& flag, const std::string& otherwise) {
    const auto found = std::find(words.begin(), words.end(), flag);
    return found == words.end() ? otherwise : *(found + 1);
  };
  EXPECT_EQ(value("--pipeline-parallel-size", ""), std::to_string(counts.size()));
  const double share = std::stod(value("--gpu-memory-utilization", "0.9"));
  Words gpus;
  const std::string visible = "CUDA_VISIBLE_DEVICES=";
  if (const auto at = variables.find(visible); at != variables.npos) {
    const auto begin = at + visible.size();
    gpus = cut(variables.substr(begin, variables.find(' ', begin) - begin), ',');
  } else {
    for (std::size_t g = 0; g < counts.size(); ++g) gpus.push_back(std::to_string(g));
  }
  ASSERT_EQ(gpus.size(), counts.size());
  const ModelBytes model(tree);
  std::size_t layer = 0;
  for (std::size_t g = 0; g < counts.size(); ++g) {
    std::uint64_t bytes =
        (g == 0 ? model.before + model.towers : 0) + (g + 1 == counts.size() ? model.after : 0);
    for (std::size_t i = 0; i < counts[g]; ++i, ++layer) {
      bytes += model.layers[layer].rest + model.layers[layer].experts +
               kv_cache_bytes(tree.facts.layers[layer], plan.workload);
    }
    expect_fits(plan, "CUDA" + gpus[g], bytes);
    const Device& device = *answer.planned.machine.find(gpus[g]);
    const auto total = static_cast<double>(std::max(device.capacity, device.total));
    EXPECT_LE(static_cast<double>(bytes), share * total) << "the share of gpu " << gpus[g];
    EXPECT_LE(share * total, static_cast<double>(device.capacity)) << "is free on " << gpus[g];
  }
}

void expect_sound(const Answer& answer) {
  ASSERT_TRUE(answer.planned.plan.fits());
  if (answer.tool == ExportTool::kLlamaCpp) expect_llama_cpp(answer);
  if (answer.tool == ExportTool::kVllm) expect_vllm(answer);
}

class Exports : public ::testing::TestWithParam<std::string> {};

TEST_P(Exports, GiveWhatFitsOrAdviceThatWorks) {
  const fs::path root = BERTH_SOURCE_DIR;
  constexpr std::size_t kShare = 11;
  const bool all = std::getenv("BERTH_ALL_EXPORTS") != nullptr;
  const std::size_t share = all ? 1 : kShare * kInstanceShare;
  std::size_t instance = std::hash<std::string>{}(GetParam()) % kShare;
  for (const std::string& model : testing::data_names("configs/models", "/config.json")) {
    for (const Policy policy : {Policy::kAuto, Policy::kThroughput, Policy::kBalanced,
                                Policy::kBalancedLow0, Policy::kSequential}) {
      for (const ExportRow& tool : kExports) {
        if (instance++ % share != 0) continue;
        const Words command{"plan",
                            (root / "configs/models" / model / "config.json").string(),
                            "--machine",
                            (root / "configs/hardware" / GetParam()).string(),
                            "--policy",
                            std::string(policy_name(policy)),
                            std::string(tool.flag)};
        SCOPED_TRACE(model + " on " + GetParam() + " by " + std::string(policy_name(policy)) + " " +
                     std::string(tool.flag));
        const Answer answer = ask(command);
        if (answer.advised.reason.empty()) {
          ASSERT_TRUE(answer.advised.words);
          expect_sound(answer);
          continue;
        }
        for (const std::string& advice : answer.advised.advice) {
          SCOPED_TRACE(advice);
          const Answer followed = ask(follow(command, advice));
          ASSERT_TRUE(followed.advised.words && followed.advised.reason.empty())
              << answer.advised.reason << ": " << followed.advised.reason;
          expect_sound(followed);
        }
        if (answer.advised.words) {  // they are those of the first advice
          EXPECT_EQ(answer.advised.words->arguments,
                    ask(follow(command, answer.advised.advice.at(0))).advised.words->arguments);
        }
      }
    }
  }
}

// Layers with a window and layers without one alternate, so that the runs of layers that llama.cpp
// wants have other sizes than the planned ones.
TEST(ExportAdvice, FindsHowMuchMoreToLeaveFree) {
  const testing::TemporaryFolder folder;
  const std::string machine =
      folder.write("machine.yaml",
                   "devices:\n"
                   "  - {name: \"0\", kind: cuda, capacity: 24GiB, memory_bandwidth: 936GB/s, "
                   "flops: 71TFLOP/s}\n"
                   "  - {name: \"1\", kind: cuda, capacity: 24GiB, memory_bandwidth: 936GB/s, "
                   "flops: 71TFLOP/s}\n"
                   "  - {name: cpu, kind: cpu, capacity: 128GiB, memory_bandwidth: 50GB/s}\n");
  const fs::path model = fs::path(BERTH_SOURCE_DIR) / "configs/models/gpt-oss-120b/config.json";
  for (const char* context : {"4096", "8192", "32768", "65536", "131072"}) {
    SCOPED_TRACE(context);
    const Words command{"plan",      model.string(), "--machine",  machine,
                        "--context", context,        "--llama-cpp"};
    const Answer answer = ask(command);
    ASSERT_TRUE(answer.advised.words);
    if (answer.advised.reason.empty()) {
      expect_sound(answer);
      continue;
    }
    EXPECT_THAT(answer.advised.advice, ::testing::ElementsAre(::testing::StartsWith("--reserve ")));
    const Answer followed = ask(follow(command, answer.advised.advice.at(0)));
    EXPECT_TRUE(followed.advised.reason.empty()) << followed.advised.reason;
    expect_sound(followed);
    EXPECT_EQ(answer.advised.words->arguments, followed.advised.words->arguments);
  }
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(0, info.param.rfind('.'));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return "On_" + name;
}

std::vector<std::string> machines() {
  std::vector<std::string> names = testing::data_names("configs/hardware", ".yaml");
  for (std::string& name : names) name += ".yaml";
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, Exports, ::testing::ValuesIn(machines()), test_name);

}  // namespace
}  // namespace berth

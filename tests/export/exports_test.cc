// What the exported arguments make the other tools do. How llama.cpp deals layers to devices and
// applies overrides is imitated here from its documentation, and must put every tensor where the
// plan has it.
#include "planner/export/exports.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>

#include "berth/error.h"
#include "planner/export/words.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::error_of;

constexpr std::uint64_t kMiB = 1 << 20;

struct Made {
  ModelTree tree;
  Plan plan;
};

ModuleId add(ModelTree& tree, const std::string& name, ModuleId parent, std::uint64_t mib = 0) {
  Module module;
  module.name = tree.names.add(name);
  module.parent = parent;
  tree.modules.push_back(module);
  const auto id = static_cast<ModuleId>(tree.modules.size() - 1);
  if (parent != kNone) tree.modules[parent].children.push_back(id);
  if (mib > 0) {
    ModelTensor tensor;
    tensor.name = tree.names.add(name + ".weight");
    tensor.stored = tensor.dtype = DType::kU8;
    tensor.shape = {mib, kMiB};
    tensor.module = id;
    tree.modules[id].tensors.push_back(static_cast<TensorId>(tree.tensors.size()));
    tree.tensors.push_back(tensor);
  }
  return id;
}

// Devices "0".."gpus-1", cpu, disk; each with `free` MiB to spare.
Made made(int layers, int gpus, std::uint64_t free = 0, int dense = 0, bool experts = false) {
  Made out;
  ModelTree& tree = out.tree;
  tree.name = "made";
  const ModuleId root = add(tree, "", kNone);
  const ModuleId body = add(tree, "model", root);
  tree.facts.embedding = add(tree, "model.embed_tokens", body, 3);
  const ModuleId list = add(tree, "model.layers", body);
  for (int i = 0; i < layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i);
    LayerFacts facts;
    facts.module = add(tree, name, list);
    facts.kv_elements = kMiB / 2;
    add(tree, name + ".self_attn", facts.module, 1);
    const ModuleId mlp = add(tree, name + ".mlp", facts.module);
    if (experts && i >= dense) {
      add(tree, name + ".mlp.gate", mlp, 1);
      tree.modules[add(tree, name + ".mlp.experts", mlp, 20)].expert = true;
    } else {
      add(tree, name + ".mlp.up_proj", mlp, 2);
    }
    tree.facts.layers.push_back(facts);
  }
  add(tree, "model.norm", body, 1);
  tree.facts.head = add(tree, "lm_head", root, 3);

  for (int g = 0; g < gpus; ++g) {
    DeviceLedger device;
    device.name = std::to_string(g);
    out.plan.devices.push_back(device);
  }
  out.plan.devices.push_back({});
  out.plan.devices.back().name = "cpu";
  out.plan.devices.back().kind = DeviceKind::kCpu;
  out.plan.devices.push_back({});
  out.plan.devices.back().name = "disk";
  out.plan.devices.back().kind = DeviceKind::kDisk;
  for (DeviceLedger& device : out.plan.devices) device.free = free * kMiB;
  out.plan.workload.context = 1;
  out.plan.workload.kv_dtype = DType::kF16;
  out.plan.tensor_device.assign(tree.tensors.size(), static_cast<std::uint32_t>(gpus));
  return out;
}

void put(Made& made, const std::string& prefix, std::uint32_t device) {
  for (TensorId t = 0; t < made.tree.tensors.size(); ++t) {
    const Name name = made.tree.tensors[t].name;
    const bool whole = name.size() > prefix.size() && name[prefix.size()] == '.';
    if (whole && name.rfind(prefix, 0) == 0) made.plan.tensor_device[t] = device;
  }
}

void put_layers(Made& made, int first, int last, std::uint32_t device) {
  for (int i = first; i <= last; ++i) put(made, "model.layers." + std::to_string(i), device);
}

// llama.cpp's reading of its arguments.
class Played {
 public:
  Played(const std::string& arguments, std::size_t layers) : layers_(layers) {
    std::istringstream in(arguments);
    for (std::string word; in >> word;) {
      std::string value;
      in >> value;
      if (word == "-ngl") ngl_ = std::stoul(value);
      if (word == "-dev") devices_ = cut(value);
      if (word == "-ts") {
        for (const std::string& share : cut(value)) split_.push_back(std::stof(share));
      }
      if (word == "-ot") {
        value = value.substr(1, value.size() - 2);  // the quotes
        const std::size_t equals = value.find('=');
        overrides_.emplace_back(std::regex(value.substr(0, equals)), value.substr(equals + 1));
      }
    }
    if (split_.empty()) split_ = {1};
    float sum = 0;
    for (float& share : split_) share = sum += share;
    for (float& share : split_) share /= sum;
  }

  // The device of a layer, or of the output, which counts as one more layer.
  std::string layer_device(std::size_t index) const {
    const std::size_t all = layers_ + 1;
    const std::size_t offloaded = std::min(ngl_, all);
    if (index < all - offloaded) return "CPU";
    const float at = static_cast<float>(index - (all - offloaded)) / static_cast<float>(offloaded);
    const auto gpu = static_cast<std::size_t>(std::upper_bound(split_.begin(), split_.end(), at) -
                                              split_.begin());
    return devices_.empty() ? "CUDA" + std::to_string(gpu) : devices_.at(gpu);
  }

  // An override can name only devices that llama.cpp uses.
  std::string override_of(const std::string& gguf) const {
    for (const auto& [pattern, where] : overrides_) {
      if (!std::regex_search(gguf, pattern)) continue;
      const bool known = where == "CPU" || devices_.empty() ||
                         std::find(devices_.begin(), devices_.end(), where) != devices_.end();
      return known ? where : where + ", which takes no part";
    }
    return "";
  }

  std::string tensor(const std::string& gguf, std::size_t layer) const {
    const std::string where = override_of(gguf);
    return where.empty() ? layer_device(layer) : where;
  }

 private:
  static std::vector<std::string> cut(const std::string& list) {
    std::vector<std::string> items;
    std::istringstream in(list);
    for (std::string item; std::getline(in, item, ',');) items.push_back(item);
    return items;
  }
  std::size_t layers_, ngl_ = 0;
  std::vector<std::string> devices_;
  std::vector<float> split_;
  std::vector<std::pair<std::regex, std::string>> overrides_;
};

std::string buffer_of(const Made& made, const std::string& tensor) {
  for (TensorId t = 0; t < made.tree.tensors.size(); ++t) {
    if (made.tree.tensors[t].name != tensor) continue;
    const DeviceLedger& device = made.plan.devices[made.plan.tensor_device[t]];
    return device.kind == DeviceKind::kCuda ? "CUDA" + device.name : "CPU";
  }
  return "no such tensor";
}

void expect_as_planned(const Made& made, const std::string& arguments) {
  const std::size_t layers = made.tree.facts.layers.size();
  const Played played(arguments, layers);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string ours = "model.layers." + std::to_string(i);
    const std::string theirs = "blk." + std::to_string(i);
    EXPECT_EQ(played.tensor(theirs + ".attn_q.weight", i),
              buffer_of(made, ours + ".self_attn.weight"))
        << arguments;
    for (const auto& [a, b] : {std::pair(".mlp.up_proj.weight", ".ffn_up.weight"),
                               std::pair(".mlp.gate.weight", ".ffn_gate_inp.weight"),
                               std::pair(".mlp.experts.weight", ".ffn_up_exps.weight"),
                               std::pair(".mlp.experts.weight", ".ffn_gate_up_exps.weight")}) {
      const std::string planned = buffer_of(made, ours + a);
      if (planned == "no such tensor") continue;
      EXPECT_EQ(played.tensor(theirs + b, i), planned) << theirs << b << ": " << arguments;
    }
  }
  EXPECT_EQ(played.tensor("output.weight", layers), buffer_of(made, "lm_head.weight")) << arguments;
  EXPECT_EQ(played.override_of("token_embd.weight"), "") << arguments;
}

TEST(LlamaCpp, PutsEveryLayerWhereThePlanHasItWhateverTheSplit) {
  for (int host = 0; host <= 7; ++host) {
    for (int cut = host; cut <= 7; ++cut) {
      Made model = made(7, 2);
      put_layers(model, host, cut - 1, 0);
      put_layers(model, cut, 6, 1);
      if (cut < 7) put(model, "lm_head", 1);
      const Export words = export_llama_cpp(model.tree, model.plan);
      expect_as_planned(model, words.arguments);
    }
  }
}

TEST(LlamaCpp, SaysAllOnOneGpu) {
  Made model = made(4, 1);
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  const Export words = export_llama_cpp(model.tree, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("input embedding on the CPU")));
}

TEST(LlamaCpp, NamesDevicesWhereTheOrderIsNotTheUsual) {
  Made model = made(4, 3);
  put_layers(model, 0, 1, 2);
  put_layers(model, 2, 3, 0);
  put(model, "lm_head", 0);
  const std::string arguments = export_llama_cpp(model.tree, model.plan).arguments;
  EXPECT_EQ(arguments, "-ngl 5 -dev CUDA2,CUDA0 -ts 2,3 -c 1");
  expect_as_planned(model, arguments);
}

TEST(LlamaCpp, KeepsGpusOutOfAPlanForTheCpuAlone) {
  const Made model = made(4, 2);
  EXPECT_EQ(export_llama_cpp(model.tree, model.plan).arguments, "-ngl 0 -dev none -c 1");
}

TEST(LlamaCpp, PutsExpertsOnTheHostByPattern) {
  Made model = made(14, 2, 0, /*dense=*/3, /*experts=*/true);
  put_layers(model, 0, 6, 0);
  put_layers(model, 7, 13, 1);
  put(model, "lm_head", 1);
  for (int i = 3; i < 12; ++i) put(model, "model.layers." + std::to_string(i) + ".mlp.experts", 2);
  const std::string arguments = export_llama_cpp(model.tree, model.plan).arguments;
  EXPECT_THAT(arguments,
              HasSubstr("-ot \"blk\\.([3-9]|1[0-1])\\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU\""));
  expect_as_planned(model, arguments);
}

TEST(LlamaCpp, PutsFeedForwardPartsElsewhereAndLeavesExpertsAlone) {
  Made model = made(4, 2, 0, /*dense=*/2, /*experts=*/true);
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  put(model, "model.embed_tokens", 2);
  put(model, "model.layers.1.mlp", 1);
  put(model, "model.layers.2.mlp.gate", 2);
  expect_as_planned(model, export_llama_cpp(model.tree, model.plan).arguments);
}

TEST(LlamaCpp, PutsTheHeadWhereThePlanHasIt) {
  for (const std::uint32_t head : {0u, 1u, 2u}) {
    Made model = made(6, 2);
    put_layers(model, 2, 3, 0);
    put_layers(model, 4, 5, 1);
    put(model, "lm_head", head);
    expect_as_planned(model, export_llama_cpp(model.tree, model.plan).arguments);
  }
  Made head_alone = made(3, 2);
  put(head_alone, "lm_head", 1);
  expect_as_planned(head_alone, export_llama_cpp(head_alone.tree, head_alone.plan).arguments);
}

TEST(LlamaCpp, LeavesATiedOutputWithTheLastLayersWhereThereIsRoom) {
  Made model = made(4, 2, /*free=*/4);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  put(model, "model.embed_tokens", 0);
  put(model, "lm_head", 0);
  model.tree.tensors.back().tied_to = 0;
  const Export words = export_llama_cpp(model.tree, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -ts 2,3 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("3.0 MiB more on gpu 1")));
  for (DeviceLedger& device : model.plan.devices) device.free = kMiB;
  EXPECT_THAT(export_llama_cpp(model.tree, model.plan).arguments,
              HasSubstr("-ot \"^(output|token_embd)=CUDA0\""));
}

TEST(LlamaCpp, LetsLikeLayersTradePlaces) {
  Made model = made(6, 2);
  put_layers(model, 0, 1, 0);  // 2 and 3 stay on the host
  put_layers(model, 4, 5, 1);
  put(model, "lm_head", 1);
  const Export words = export_llama_cpp(model.tree, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -ts 2,3 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("trade places")));
}

TEST(LlamaCpp, KeepsUnlikeLayersOfTheHostInTheirPlaceByPattern) {
  Made model = made(6, 2, /*free=*/4, /*dense=*/2, /*experts=*/true);
  put_layers(model, 0, 1, 0);  // dense, small
  put_layers(model, 4, 5, 1);
  put(model, "lm_head", 1);
  const Export words = export_llama_cpp(model.tree, model.plan);
  EXPECT_THAT(words.arguments, HasSubstr("-ngl 7 -ts 4,3 -ot \"blk\\.([2-3])\\.=CPU\""));
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("KV cache, 2.0 MiB, is on gpu 0")));
  expect_as_planned(model, words.arguments);
  for (DeviceLedger& device : model.plan.devices) device.free = kMiB;
  EXPECT_THROW(export_llama_cpp(model.tree, model.plan), Error) << "no room for their KV cache";
}

TEST(LlamaCpp, CountsTheDiskAsTheCpuAndSaysSo) {
  Made model = made(4, 1);
  put_layers(model, 0, 3, 2);
  model.plan.devices[2].weights = 12 * kMiB;
  const Export words = export_llama_cpp(model.tree, model.plan);
  EXPECT_THAT(words.arguments, HasSubstr("-ngl 0"));
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("no disk tier: 12.0 MiB")));
}

TEST(LlamaCpp, SaysContextBatchAndTypeOfTheKvCache) {
  Made model = made(2, 1);
  model.plan.workload.context = 4096;
  model.plan.workload.batch = 3;
  model.plan.workload.kv_dtype = DType::kF32;
  EXPECT_THAT(export_llama_cpp(model.tree, model.plan).arguments,
              HasSubstr("-c 12288 -np 3 -ctk f32 -ctv f32"));
}

TEST(LlamaCpp, CallsTheKvCacheByItsOwnWords) {
  Made model = made(2, 1);
  const auto arguments = [&](DType dtype, bool asked = true) {
    model.plan.workload.kv_dtype = dtype;
    model.plan.workload.kv_dtype_asked = asked;
    return export_llama_cpp(model.tree, model.plan);
  };
  const Export blocks = arguments(DType::kQ4_0);
  EXPECT_THAT(blocks.arguments, HasSubstr("-ctk q4_0 -ctv q4_0"));
  EXPECT_THAT(blocks.notes, ::testing::Contains(HasSubstr("only with flash attention")));
  EXPECT_THAT(arguments(DType::kBF16).arguments, HasSubstr("-ctk bf16 -ctv bf16"));
  EXPECT_THAT(arguments(DType::kBF16, false).arguments, Not(HasSubstr("-ctk")));
  EXPECT_THAT(arguments(DType::kF16).arguments, Not(HasSubstr("-ctk")));
  for (const DType dtype : {DType::kF8E4M3, DType::kI8}) {
    const Export other = arguments(dtype);
    EXPECT_THAT(other.arguments, HasSubstr("-ctk q8_0 -ctv q8_0"));
    EXPECT_THAT(other.notes, ::testing::Contains(HasSubstr("q8_0 takes 1/16 more")));
  }
}

TEST(LlamaCpp, RefusesWhatItCannotSay) {
  Made cut_attention = made(2, 1);
  put(cut_attention, "model.layers.1.self_attn", 0);
  ModelTensor extra = cut_attention.tree.tensors[1];
  extra.name = "model.layers.0.self_attn.bias";
  cut_attention.tree.tensors.push_back(extra);
  cut_attention.plan.tensor_device.push_back(0);
  EXPECT_THROW(export_llama_cpp(cut_attention.tree, cut_attention.plan), Error);
  Made unknown = made(2, 1);
  unknown.tree.facts.layers.clear();
  EXPECT_THROW(export_llama_cpp(unknown.tree, unknown.plan), Error);
  Made unplaced = made(2, 1);
  unplaced.plan.tensor_device[0] = kNone;
  EXPECT_THROW(export_llama_cpp(unplaced.tree, unplaced.plan), Error);
}

TEST(Vllm, SplitsLayersInOrder) {
  Made model = made(7, 2);
  put_layers(model, 0, 2, 0);
  put_layers(model, 3, 6, 1);
  put(model, "model.embed_tokens", 0);
  put(model, "model.norm", 1);
  put(model, "lm_head", 1);
  const Export words = export_vllm(model.tree, model.plan);
  EXPECT_EQ(words.environment, "VLLM_PP_LAYER_PARTITION=3,4");
  EXPECT_EQ(words.arguments, "--pipeline-parallel-size 2 --max-model-len 1");
  EXPECT_THAT(words.notes, ElementsAre());
}

TEST(Vllm, CallsTheKvCacheByItsOwnWords) {
  Made model = made(2, 1);
  put_layers(model, 0, 1, 0);
  for (const char* name : {"model.embed_tokens", "model.norm", "lm_head"}) put(model, name, 0);
  const auto arguments = [&](DType dtype) {
    model.plan.workload.kv_dtype = dtype;
    return export_vllm(model.tree, model.plan).arguments;
  };
  EXPECT_THAT(arguments(DType::kF8E4M3), EndsWith("--kv-cache-dtype fp8"));
  EXPECT_THAT(arguments(DType::kF8E5M2), EndsWith("--kv-cache-dtype fp8_e5m2"));
  EXPECT_THAT(arguments(DType::kF16), Not(HasSubstr("--kv-cache-dtype")));
  EXPECT_THAT(error_of([&] { arguments(DType::kQ8_0); }),
              StartsWith("vLLM has no KV cache of q8_0"));
  EXPECT_THAT(error_of([&] { arguments(DType::kI8); }), StartsWith("vLLM has no KV cache of int8"));
}

TEST(Vllm, OrdersGpusByTheEnvironment) {
  Made model = made(7, 3);
  put_layers(model, 0, 2, 2);
  put_layers(model, 3, 6, 0);
  put(model, "model.embed_tokens", 2);
  put(model, "lm_head", 0);
  EXPECT_EQ(export_vllm(model.tree, model.plan).environment,
            "CUDA_VISIBLE_DEVICES=2,0 VLLM_PP_LAYER_PARTITION=3,4");
}

TEST(Vllm, SaysWhatMovesAndRefusesWhatDoesNotFitThen) {
  Made model = made(4, 2, /*free=*/8);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  put(model, "lm_head", 0);  // and the embedding on the CPU
  const Export words = export_vllm(model.tree, model.plan);
  EXPECT_THAT(words.notes,
              ElementsAre("vLLM keeps the embedding with the first layers: 3.0 MiB more on gpu 0",
                          "vLLM keeps the head with the last layers: 4.0 MiB more on gpu 1"));
  for (DeviceLedger& device : model.plan.devices) device.free = 2 * kMiB;
  EXPECT_THROW(export_vllm(model.tree, model.plan), Error);
}

TEST(Vllm, RefusesLayersOffTheGpusAndCutLayers) {
  Made host = made(4, 1);
  put_layers(host, 0, 2, 0);
  try {
    export_vllm(host.tree, host.plan);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("1 of 4 layers have weights off the GPUs"));
  }
  Made cut = made(4, 2);
  cut.plan.tensor_device.assign(cut.tree.tensors.size(), 0);
  put(cut, "model.layers.2.mlp", 1);
  EXPECT_THROW(export_vllm(cut.tree, cut.plan), Error);
}

TEST(NumberPattern, MatchesTheNumbersAndNoOthers) {
  for (std::uint64_t first = 0; first < 130; first += 3) {
    for (std::uint64_t last = first; last < 1200; last = last * 2 + 1) {
      std::vector<std::uint64_t> numbers;
      for (std::uint64_t n = first; n <= last; ++n) numbers.push_back(n);
      const std::regex pattern("^(" + number_pattern(numbers) + ")$");
      for (std::uint64_t n = 0; n < 1300; ++n) {
        ASSERT_EQ(std::regex_match(std::to_string(n), pattern), n >= first && n <= last)
            << n << " in " << first << "-" << last << ": " << number_pattern(numbers);
      }
    }
  }
  EXPECT_EQ(number_pattern({0, 2, 3, 9, 10, 11}), "0|[2-3]|9|1[0-1]");
}

}  // namespace
}  // namespace berth

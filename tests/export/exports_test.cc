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
#include "planner/export/layer_homes.h"
#include "planner/export/words.h"
#include "tests/error_of.h"
#include "tests/export/played.h"

namespace berth {
namespace {

using ::berth::testing::Played;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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
      const Export words = export_llama_cpp(model.tree, {}, model.plan);
      expect_as_planned(model, words.arguments);
    }
  }
}

TEST(LlamaCpp, SaysAllOnOneGpu) {
  Made model = made(4, 1);
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("input embedding on the CPU")));
}

TEST(LlamaCpp, NamesDevicesWhereTheOrderIsNotTheUsual) {
  Made model = made(4, 3);
  put_layers(model, 0, 1, 2);
  put_layers(model, 2, 3, 0);
  put(model, "lm_head", 0);
  const std::string arguments = export_llama_cpp(model.tree, {}, model.plan).arguments;
  EXPECT_EQ(arguments, "-ngl 5 -dev CUDA2,CUDA0 -ts 2,3 -c 1");
  expect_as_planned(model, arguments);
}

TEST(LlamaCpp, KeepsGpusOutOfAPlanForTheCpuAlone) {
  const Made model = made(4, 2);
  EXPECT_EQ(export_llama_cpp(model.tree, {}, model.plan).arguments, "-ngl 0 -dev none -c 1");
}

TEST(LlamaCpp, PutsExpertsOnTheHostByPattern) {
  Made model = made(14, 2, 0, /*dense=*/3, /*experts=*/true);
  put_layers(model, 0, 6, 0);
  put_layers(model, 7, 13, 1);
  put(model, "lm_head", 1);
  for (int i = 3; i < 12; ++i) put(model, "model.layers." + std::to_string(i) + ".mlp.experts", 2);
  const std::string arguments = export_llama_cpp(model.tree, {}, model.plan).arguments;
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
  expect_as_planned(model, export_llama_cpp(model.tree, {}, model.plan).arguments);
}

TEST(LlamaCpp, PutsTheHeadWhereThePlanHasIt) {
  for (const std::uint32_t head : {0u, 1u, 2u}) {
    Made model = made(6, 2);
    put_layers(model, 2, 3, 0);
    put_layers(model, 4, 5, 1);
    put(model, "lm_head", head);
    expect_as_planned(model, export_llama_cpp(model.tree, {}, model.plan).arguments);
  }
  Made head_alone = made(3, 2);
  put(head_alone, "lm_head", 1);
  expect_as_planned(head_alone, export_llama_cpp(head_alone.tree, {}, head_alone.plan).arguments);
}

TEST(LlamaCpp, LeavesATiedOutputWithTheLastLayersWhereThereIsRoom) {
  Made model = made(4, 2, /*free=*/4);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  put(model, "model.embed_tokens", 0);
  put(model, "lm_head", 0);
  model.tree.tensors.back().tied_to = 0;
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -ts 2,3 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("3.0 MiB more on gpu 1")));
  for (DeviceLedger& device : model.plan.devices) device.free = kMiB;
  EXPECT_THAT(export_llama_cpp(model.tree, {}, model.plan).arguments,
              HasSubstr("-ot \"^(output|token_embd)=CUDA0\""));
}

TEST(LlamaCpp, LetsLikeLayersTradePlaces) {
  Made model = made(6, 2);
  put_layers(model, 0, 1, 0);  // 2 and 3 stay on the host
  put_layers(model, 4, 5, 1);
  put(model, "lm_head", 1);
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 5 -ts 2,3 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("trade places")));
}

TEST(LlamaCpp, KeepsUnlikeLayersOfTheHostInTheirPlaceByPattern) {
  Made model = made(6, 2, /*free=*/4, /*dense=*/2, /*experts=*/true);
  put_layers(model, 0, 1, 0);  // dense, small
  put_layers(model, 4, 5, 1);
  put(model, "lm_head", 1);
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_THAT(words.arguments, HasSubstr("-ngl 7 -ts 4,3 -ot \"blk\\.([2-3])\\.=CPU\""));
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("KV cache, 2.0 MiB, is on gpu 0")));
  expect_as_planned(model, words.arguments);
  for (DeviceLedger& device : model.plan.devices) device.free = kMiB;
  EXPECT_THROW(export_llama_cpp(model.tree, {}, model.plan), Error) << "no room for their KV cache";
}

TEST(LlamaCpp, CountsTheDiskAsTheCpuAndSaysSo) {
  Made model = made(4, 1);
  put_layers(model, 0, 3, 2);
  model.plan.devices[2].weights = 12 * kMiB;
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_THAT(words.arguments, HasSubstr("-ngl 0"));
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("no disk tier: 12.0 MiB")));
}

TEST(LlamaCpp, SaysContextBatchAndTypeOfTheKvCache) {
  Made model = made(2, 1);
  model.plan.workload.context = 4096;
  model.plan.workload.batch = 3;
  model.plan.workload.kv_dtype = DType::kF32;
  EXPECT_THAT(export_llama_cpp(model.tree, {}, model.plan).arguments,
              HasSubstr("-c 12288 -np 3 -ctk f32 -ctv f32"));
}

TEST(LlamaCpp, CallsTheKvCacheByItsOwnWords) {
  Made model = made(2, 1);
  const auto arguments = [&](DType dtype, bool asked = true) {
    model.plan.workload.kv_dtype = dtype;
    model.plan.workload.kv_dtype_asked = asked;
    return export_llama_cpp(model.tree, {}, model.plan);
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
  EXPECT_THROW(export_llama_cpp(cut_attention.tree, {}, cut_attention.plan), Error);
  Made unknown = made(2, 1);
  unknown.tree.facts.layers.clear();
  EXPECT_THROW(export_llama_cpp(unknown.tree, {}, unknown.plan), Error);
  Made unplaced = made(2, 1);
  unplaced.plan.tensor_device[0] = kNone;
  EXPECT_THROW(export_llama_cpp(unplaced.tree, {}, unplaced.plan), Error);
}

TEST(Vllm, SplitsLayersInOrder) {
  Made model = made(7, 2);
  put_layers(model, 0, 2, 0);
  put_layers(model, 3, 6, 1);
  put(model, "model.embed_tokens", 0);
  put(model, "model.norm", 1);
  put(model, "lm_head", 1);
  const Export words = export_vllm(model.tree, {}, model.plan);
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
    return export_vllm(model.tree, {}, model.plan).arguments;
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
  EXPECT_EQ(export_vllm(model.tree, {}, model.plan).environment,
            "CUDA_VISIBLE_DEVICES=2,0 VLLM_PP_LAYER_PARTITION=3,4");
}

TEST(Vllm, SaysWhatMovesAndRefusesWhatDoesNotFitThen) {
  Made model = made(4, 2, /*free=*/8);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  put(model, "lm_head", 0);  // and the embedding on the CPU
  const Export words = export_vllm(model.tree, {}, model.plan);
  EXPECT_THAT(words.notes,
              ElementsAre("vLLM keeps the embedding with the first layers: 3.0 MiB more on gpu 0",
                          "vLLM keeps the head with the last layers: 4.0 MiB more on gpu 1"));
  for (DeviceLedger& device : model.plan.devices) device.free = 2 * kMiB;
  EXPECT_THROW(export_vllm(model.tree, {}, model.plan), Error);
}

TEST(Vllm, RefusesLayersOffTheGpusAndCutLayers) {
  Made host = made(4, 1);
  put_layers(host, 0, 2, 0);
  try {
    export_vllm(host.tree, {}, host.plan);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("1 of 4 layers have weights off the GPUs"));
  }
  Made cut = made(4, 2);
  cut.plan.tensor_device.assign(cut.tree.tensors.size(), 0);
  put(cut, "model.layers.2.mlp", 1);
  EXPECT_THROW(export_vllm(cut.tree, {}, cut.plan), Error);
}

TEST(LlamaCpp, CountsTheCacheOfAWindowAsItIsThere) {
  Made model = made(2, 1, /*free=*/0);
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  put(model, "model.embed_tokens", 1);  // where llama.cpp has it
  model.plan.workload.context = 4096;
  for (LayerFacts& layer : model.tree.facts.layers) {
    layer.kv_elements = 1024;
    layer.window = 128;
  }
  // 128 + 512 positions in whole 256 are 768, 640 more than planned: 2 x 640 x 2 KiB.
  EXPECT_THROW(export_llama_cpp(model.tree, {}, model.plan), NoSpace);
  model.plan.devices[0].free = 2 * 640 * 2048;
  EXPECT_EQ(export_llama_cpp(model.tree, {}, model.plan).arguments, "-ngl 3 -c 4096 -np 1");
  for (LayerFacts& layer : model.tree.facts.layers) layer.window = 4096;  // all of the context
  model.plan.devices[0].free = 0;
  EXPECT_EQ(export_llama_cpp(model.tree, {}, model.plan).arguments, "-ngl 3 -c 4096");
}

TEST(LlamaCpp, SaysHowManySequencesHaveAState) {
  Made model = made(2, 1);
  model.tree.facts.layers[0].state_bytes = 8;
  EXPECT_THAT(export_llama_cpp(model.tree, {}, model.plan).arguments, HasSubstr("-c 1 -np 1"));
}

TEST(LlamaCpp, GivesTowersTheirPlace) {
  Made model = made(2, 1, /*free=*/1);
  const ModuleId tower = add(model.tree, "model.vision_tower", 1, 5);
  model.tree.modules[tower].prompt_only = true;
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  const Export words = export_llama_cpp(model.tree, {}, model.plan);
  EXPECT_EQ(words.arguments, "-ngl 3 -c 1");
  EXPECT_THAT(words.notes, ::testing::Contains(HasSubstr("5.0 MiB, are a file of their own")));
  put(model, "model.vision_tower", 1);  // the CPU
  EXPECT_EQ(export_llama_cpp(model.tree, {}, model.plan).arguments,
            "-ngl 3 --no-mmproj-offload -c 1");
}

TEST(LlamaCpp, WritesOneListOfOverrides) {
  Made model = made(6, 2, 0, /*dense=*/0, /*experts=*/true);
  put_layers(model, 0, 2, 0);
  put_layers(model, 3, 5, 1);
  put(model, "model.layers.1.mlp.experts", 2);
  const std::string arguments = export_llama_cpp(model.tree, {}, model.plan).arguments;
  EXPECT_THAT(
      arguments,
      HasSubstr("-ot \"blk\\.(1)\\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,^output=CPU\""));
  expect_as_planned(model, arguments);
}

TEST(Vllm, CountsAllThatMovesToAGpuTogether) {
  Made model = made(4, 1, /*free=*/6);
  put_layers(model, 0, 3, 0);  // 3 MiB of embedding and 4 of norm and head are on the CPU
  EXPECT_THROW(export_vllm(model.tree, {}, model.plan), NoSpace);
  model.plan.devices[0].free = 7 * kMiB;
  EXPECT_THAT(export_vllm(model.tree, {}, model.plan).notes, ::testing::SizeIs(2));
}

TEST(Vllm, KeepsACopyOfATiedWeightThatIsThereAlready) {
  Made model = made(4, 2, /*free=*/0);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  put(model, "model.embed_tokens", 0);
  put(model, "model.norm", 1);
  put(model, "lm_head", 1);
  model.tree.tensors.back().tied_to = 0;
  EXPECT_THAT(export_vllm(model.tree, {}, model.plan).notes, ElementsAre());
  put(model, "lm_head", 0);  // with the embedding: there is no copy on the last GPU yet
  EXPECT_THROW(export_vllm(model.tree, {}, model.plan), NoSpace);
}

TEST(Vllm, SaysWhatShareOfAGpuItMayFill) {
  Made model = made(4, 1);
  model.plan.tensor_device.assign(model.tree.tensors.size(), 0);
  Machine machine;
  machine.devices.push_back({});
  machine.devices[0].name = "0";
  DeviceLedger& gpu = model.plan.devices[0];
  gpu.capacity = machine.devices[0].capacity = machine.devices[0].total = 1000 * kMiB;
  const auto said = [&](std::uint64_t weights, std::uint64_t reserved) {
    gpu.weights = weights * kMiB;
    gpu.reserved = reserved * kMiB;
    const std::string words = export_vllm(model.tree, machine, model.plan).arguments;
    return words.substr(words.find(" --max-model-len 1") + 18);
  };
  EXPECT_EQ(said(900, 50), "");
  EXPECT_EQ(said(930, 50), " --gpu-memory-utilization 0.95");
  EXPECT_EQ(said(940, 25), " --gpu-memory-utilization 0.975");
  EXPECT_THROW(said(960, 50), NoSpace);
  machine.devices[0].total = 1200 * kMiB;  // others have 200 of it
  EXPECT_EQ(said(930, 50), "");
}

TEST(KnownModels, AreRefusedOnlyWhereAToolIsKnownNotToRunThem) {
  Made model = made(4, 2);
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);
  for (const char* ends : {"model.embed_tokens"}) put(model, ends, 0);
  for (const char* ends : {"model.norm", "lm_head"}) put(model, ends, 1);
  EXPECT_NO_THROW(export_vllm(model.tree, {}, model.plan));
  model.tree.model_type = "unheard_of";
  EXPECT_NO_THROW(export_vllm(model.tree, {}, model.plan));
  EXPECT_NO_THROW(export_llama_cpp(model.tree, {}, model.plan));
  const auto error = [&](const ExportRow& tool) {
    try {
      tool.make(model.tree, {}, model.plan);
    } catch (const Error& thrown) {
      return std::string(thrown.what());
    }
    return std::string("no error");
  };
  model.tree.model_type = "whisper";
  EXPECT_THAT(error(kExports[0]), HasSubstr("whisper.cpp runs them"));
  EXPECT_THAT(error(kExports[1]), HasSubstr("divides no whisper model over GPUs"));
  model.tree.model_type = "t5";
  EXPECT_THAT(error(kExports[0]), HasSubstr("can be on one GPU as a whole"));
  EXPECT_THAT(error(kExports[1]), HasSubstr("no t5 models"));
}

// 8 layers of 3 MiB and 1 MiB of KV cache, an embedding and a head of 3 MiB, a norm of 1 MiB.
TEST(Vllm, SaysWhatItsOwnOffloadingWouldTake) {
  constexpr std::uint64_t kGiB = 1024 * kMiB;
  Made model = made(8, 2);
  for (ModelTensor& tensor : model.tree.tensors) tensor.shape[1] *= 1024;  // GiB instead of MiB
  for (LayerFacts& layer : model.tree.facts.layers) layer.kv_elements *= 1024;
  put_layers(model, 0, 1, 0);
  put_layers(model, 2, 3, 1);  // the others are on the CPU
  model.plan.devices[2].weights = 12 * kGiB;
  const auto said = [&](std::uint64_t gpu, std::uint64_t host) {
    model.plan.devices[0].capacity = model.plan.devices[1].capacity = gpu * kGiB;
    model.plan.devices[2].free = host * kGiB;
    try {
      export_vllm(model.tree, {}, model.plan);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  // Of 14 GiB, GPU 0 has 3 for the embedding and 4 for the cache of its layers, GPU 1 has 4 for
  // norm and head: 4 layers of 12 GiB leave 5 and 6 GiB too much.
  EXPECT_THAT(said(14, 100), HasSubstr("off the GPUs, where vLLM computes nothing (vLLM's own "
                                       "--cpu-offload-gb 6 with VLLM_PP_LAYER_PARTITION=4,4 would "
                                       "copy them from host RAM in each pass)"));
  EXPECT_THAT(said(14, 0), HasSubstr("--cpu-offload-gb 6 ")) << "12 GiB are there already";
  EXPECT_THAT(said(11, 0), ::testing::EndsWith("where vLLM computes nothing"))
      << "more than 12 GiB";
  EXPECT_THAT(said(7, 100), ::testing::EndsWith("where vLLM computes nothing"))
      << "the cache alone";
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

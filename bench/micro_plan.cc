// Measures what planning costs as models and machines grow, with the metadata already in memory.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"

namespace berth {
namespace {

// Llama-3.3-70B with another number of layers, from its config alone.
ModelTree make_tree(std::int64_t layers) {
  const std::string json =
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16",
          "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
          "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 131072, "tie_word_embeddings": false,
          "num_hidden_layers": )" +
      std::to_string(layers) + "}";
  const ModelConfig config = ModelConfig::parse(json, "bench");
  return build_model_tree("bench", &config, nullptr, std::nullopt);
}

// Where the share of the model goes that the GPUs together cannot hold. kNothing: they hold all of
// it.
enum Spill : std::int64_t { kNothing, kToCpu, kToDisk };

// A machine with GPUs of which no two have the same size or speed, a CPU and a disk.
Machine make_machine(std::int64_t gpus, std::uint64_t model_bytes, Spill spill) {
  Machine machine;
  machine.source = "bench";
  const auto add = [&](const std::string& name, DeviceKind kind, double share) {
    Device device;
    device.name = name;
    device.kind = kind;
    device.capacity = static_cast<std::uint64_t>(static_cast<double>(model_bytes) * share);
    machine.devices.push_back(device);
  };
  // Sizes are in the ratio 3 : 4 : 5 : ... If the GPUs have to hold the whole model, they get a
  // fifth more than its size, for the KV cache.
  double parts = 0;
  for (std::int64_t i = 0; i < gpus; ++i) parts += static_cast<double>(3 + i);
  const double held = spill == kNothing ? 1.2 : 2.0 / 3;
  for (std::int64_t i = 0; i < gpus; ++i) {
    add(std::to_string(i), DeviceKind::kCuda, held * static_cast<double>(3 + i) / parts);
    machine.devices.back().capacity += 1ull << 30;          // for context and workspace, always
    const auto speed = static_cast<double>(1 + i * 5 % 8);  // not in the order of the sizes
    machine.devices.back().memory_bandwidth = 4e11 * speed;
    machine.devices.back().flops = 4e13 * speed;
  }
  add("cpu", DeviceKind::kCpu, spill == kToDisk ? 0.2 : 2);
  add("disk", DeviceKind::kDisk, 4);
  for (Device& device : machine.devices) device.total = device.capacity;
  fill_defaults(machine);
  return machine;
}

void plan_with(benchmark::State& state, Policy policy, Spill spill) {
  const ModelTree tree = make_tree(state.range(0));
  const Machine machine = make_machine(state.range(1), tree.bytes(), spill);
  Request request;
  request.policy = policy;
  for (auto _ : state) {
    const Plan plan = make_plan(tree, machine, request);
    benchmark::DoNotOptimize(plan.placement.data());
    if (!plan.fits()) state.SkipWithError("the plan does not fit: this measures something else");
  }
  state.counters["tensors"] = static_cast<double>(tree.tensors.size());
}

void BM_AutoGrows(benchmark::State& state) { plan_with(state, Policy::kAuto, kToCpu); }
void BM_AutoSpills(benchmark::State& state) {
  plan_with(state, Policy::kAuto, static_cast<Spill>(state.range(2)));
}
void BM_PlanBalanced(benchmark::State& state) { plan_with(state, Policy::kBalanced, kToCpu); }
BENCHMARK(BM_AutoGrows)
    ->ArgNames({"layers", "gpus"})
    ->ArgsProduct({{10, 30, 100, 300, 1000}, {1, 2, 4, 8}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_AutoSpills)
    ->ArgNames({"layers", "gpus", "spill"})
    ->ArgsProduct({{80}, {8}, {kNothing, kToCpu, kToDisk}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PlanBalanced)
    ->ArgNames({"layers", "gpus"})
    ->ArgsProduct({{10, 100, 1000}, {2, 8}})
    ->Unit(benchmark::kMillisecond);

// Opens the model from its config.json alone: reads the template and builds the tree.
void BM_OpenConfig(benchmark::State& state) {
  for (auto _ : state) {
    const ModelTree tree = make_tree(state.range(0));
    benchmark::DoNotOptimize(tree.tensors.data());
  }
}
BENCHMARK(BM_OpenConfig)
    ->ArgNames({"layers"})
    ->ArgsProduct({{10, 30, 100, 300, 1000}})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace berth

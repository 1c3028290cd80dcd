// What planning costs as models and machines grow, metadata already in memory.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "planner/placement/planner.h"

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

// GPUs of four sizes that hold about two thirds of the model between them, and a CPU for the rest.
Machine make_machine(std::int64_t gpus, std::uint64_t model_bytes) {
  Machine machine;
  machine.source = "bench";
  for (std::int64_t i = 0; i < gpus; ++i) {
    Device device;
    device.name = std::to_string(i);
    device.kind = DeviceKind::kCuda;
    device.capacity = model_bytes * 2 / 3 / static_cast<std::uint64_t>(gpus) *
                      static_cast<std::uint64_t>(3 + i % 4) / 4;
    device.memory_bandwidth = 1e12 * static_cast<double>(1 + i % 4);
    device.flops = 1e14 * static_cast<double>(1 + i % 4);
    machine.devices.push_back(device);
  }
  Device cpu;
  cpu.name = "cpu";
  cpu.kind = DeviceKind::kCpu;
  cpu.capacity = 2 * model_bytes;
  machine.devices.push_back(cpu);
  for (Device& device : machine.devices) device.total = device.capacity;
  fill_defaults(machine);
  return machine;
}

void plan_with(benchmark::State& state, Policy policy) {
  const ModelTree tree = make_tree(state.range(0));
  const Machine machine = make_machine(state.range(1), tree.bytes());
  Request request;
  request.policy = policy;
  for (auto _ : state) {
    const Plan plan = make_plan(tree, machine, request);
    benchmark::DoNotOptimize(plan.placement.data());
  }
  state.counters["tensors"] = static_cast<double>(tree.tensors.size());
}

void BM_PlanAuto(benchmark::State& state) { plan_with(state, Policy::kAuto); }
void BM_PlanBalanced(benchmark::State& state) { plan_with(state, Policy::kBalanced); }
BENCHMARK(BM_PlanAuto)
    ->ArgNames({"layers", "gpus"})
    ->ArgsProduct({{10, 80, 1000}, {1, 2, 8}})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PlanBalanced)
    ->ArgNames({"layers", "gpus"})
    ->ArgsProduct({{10, 80, 1000}, {2, 8}})
    ->Unit(benchmark::kMillisecond);

void BM_BuildTree(benchmark::State& state) {
  for (auto _ : state) {
    const ModelTree tree = make_tree(state.range(0));
    benchmark::DoNotOptimize(tree.tensors.data());
  }
}
BENCHMARK(BM_BuildTree)->Arg(80)->Arg(1000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace berth

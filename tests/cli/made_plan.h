// A small model and plans of it, made by hand: what reports are tested with.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "berth/planner.h"
#include "cli/report/planned.h"

namespace berth::testing {

inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

inline ModuleId add_module(ModelTree& tree, const std::string& name, ModuleId parent) {
  Module module;
  module.name = tree.names.add(name);
  module.parent = parent;
  tree.modules.push_back(module);
  const auto id = static_cast<ModuleId>(tree.modules.size() - 1);
  if (parent != kNone) tree.modules[parent].children.push_back(id);
  return id;
}

// A bfloat16 weight of `gib` GiB in a module of its own.
inline ModuleId add_weight(ModelTree& tree, const std::string& name, ModuleId parent,
                           std::uint64_t gib) {
  const ModuleId id = add_module(tree, name, parent);
  ModelTensor tensor;
  tensor.name = tree.names.add(name + ".weight");
  tensor.stored = tensor.dtype = DType::kBF16;
  tensor.shape = {gib, kGiB / 2};
  tensor.module = id;
  tree.modules[id].tensors.push_back(static_cast<TensorId>(tree.tensors.size()));
  tree.tensors.push_back(tensor);
  return id;
}

// model.embed_tokens (1 GiB), model.layers.0-5 (2 GiB each), model.norm and lm_head (1 GiB each).
inline Model made_model() {
  Model model;
  model.path = "made";
  ModelTree& tree = model.tree;
  tree.name = "made";
  tree.model_type = "llama";
  const ModuleId root = add_module(tree, "", kNone);
  const ModuleId body = add_module(tree, "model", root);
  add_weight(tree, "model.embed_tokens", body, 1);
  const ModuleId layers = add_module(tree, "model.layers", body);
  for (int i = 0; i < 6; ++i) {
    LayerFacts facts;
    facts.module = add_weight(tree, "model.layers." + std::to_string(i), layers, 2);
    tree.facts.layers.push_back(facts);
  }
  add_weight(tree, "model.norm", body, 1);
  add_weight(tree, "lm_head", root, 1);
  return model;
}

// Embedding and layers 0-3 on GPU 0, layers 4-5 on the CPU, norm and head on GPU 0.
inline Planned made_plan() {
  Planned planned{made_model(), {}, {}, {}};
  Plan& plan = planned.plan;
  plan.machine = "a made machine";
  DeviceLedger gpu{"0",      DeviceKind::kCuda, 12 * kGiB, kGiB / 2, 11 * kGiB,
                   kGiB / 8, kGiB / 16,         0,         0};
  gpu.free = gpu.capacity - gpu.reserved - gpu.weights - gpu.kv_cache - gpu.workspace;
  DeviceLedger cpu{"cpu", DeviceKind::kCpu, 64 * kGiB, 0, 4 * kGiB, kGiB / 16, 0, 0, 0};
  cpu.free = cpu.capacity - cpu.weights - cpu.kv_cache;
  plan.devices = {gpu, cpu};
  const ModelTree& tree = planned.model.tree;
  plan.tensor_device.assign(tree.tensors.size(), 0);
  for (const ModelTensor& tensor : tree.tensors) {
    const Name name = tree.modules[tensor.module].name;
    const bool on_cpu = name == "model.layers.4" || name == "model.layers.5";
    const std::uint64_t gib = tensor.shape[0];
    plan.placement.push_back({tensor.module, on_cpu ? 1u : 0u, gib * kGiB,
                              on_cpu ? "gpu 0 is full" : "the fastest device with room"});
    plan.device_map.push_back({std::string(name), on_cpu ? "cpu" : "0"});
    plan.tensor_device[&tensor - tree.tensors.data()] = on_cpu ? 1 : 0;
  }
  plan.workload.context = 4096;
  plan.staging = std::uint64_t{128} << 20;
  plan.load_peak = {kGiB / 8, 30 * kGiB};
  plan.estimate.prefill_seconds = 0.25;
  plan.estimate.seconds_per_token = 0.05;
  plan.estimate.score_seconds = 6.65;
  plan.estimate.optimality_gap = 0;
  return planned;
}

// Layers of attention, router and experts, listed as the planner lists a layer that it has cut.
inline Planned cut_layers(int layers) {
  Planned planned;
  ModelTree& tree = planned.model.tree;
  const ModuleId body = add_module(tree, "model", add_module(tree, "", kNone));
  const ModuleId list = add_module(tree, "model.layers", body);
  for (int i = 0; i < layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i);
    const ModuleId layer = add_module(tree, name, list);
    LayerFacts facts;
    facts.module = layer;
    tree.facts.layers.push_back(facts);
    const ModuleId attention = add_weight(tree, name + ".self_attn", layer, 1);
    const ModuleId mlp = add_module(tree, name + ".mlp", layer);
    const ModuleId gate = add_weight(tree, name + ".mlp.gate", mlp, 1);
    const ModuleId experts = add_weight(tree, name + ".mlp.experts", mlp, 6);
    tree.modules[experts].expert = true;
    for (const auto& [module, device, gib] :
         {std::tuple(attention, 0u, 1), std::tuple(gate, 0u, 1), std::tuple(experts, 1u, 6)}) {
      planned.plan.placement.push_back({module, device, gib * kGiB, ""});
    }
  }
  planned.plan.devices.resize(2);
  return planned;
}

}  // namespace berth::testing

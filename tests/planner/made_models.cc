#include "tests/planner/made_models.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "berth/planner.h"
#include "planner/cost/chain.h"
#include "tests/planner/compact_tree.h"

namespace berth {

Device gpu(const std::string& name, std::uint64_t capacity, double bandwidth) {
  Device device;
  device.name = name;
  device.capacity = device.total = capacity;
  device.memory_bandwidth = bandwidth;
  device.flops = bandwidth * 150;
  return device;
}

Machine machine_of(std::vector<Device> gpus, std::uint64_t host, std::uint64_t disk) {
  Machine machine;
  machine.source = "a test";
  machine.devices = std::move(gpus);
  Device cpu;
  cpu.name = "cpu";
  cpu.kind = DeviceKind::kCpu;
  cpu.capacity = cpu.total = host;
  if (host > 0) machine.devices.push_back(cpu);
  cpu.name = "disk";
  cpu.kind = DeviceKind::kDisk;
  cpu.capacity = cpu.total = disk;
  if (disk > 0) machine.devices.push_back(cpu);
  fill_defaults(machine);
  return machine;
}

void add_node(Machine& machine, std::uint64_t capacity, double bandwidth) {
  std::size_t nodes = 0;
  auto after = machine.devices.begin();
  for (auto it = machine.devices.begin(); it != machine.devices.end(); ++it) {
    if (it->kind == DeviceKind::kDisk) continue;
    if (it->kind == DeviceKind::kCpu) ++nodes;
    after = it + 1;
  }
  Device node;
  node.name = nodes == 0 ? "cpu" : "cpu:" + std::to_string(nodes);
  node.kind = DeviceKind::kCpu;
  node.capacity = node.total = capacity;
  node.memory_bandwidth = bandwidth;
  machine.devices.insert(after, node);
  fill_defaults(machine);
}

// embed, layers.N.{attn, mlp}, norm, head: bfloat16.
ModelTree model_of(const MadeShape& shape) {
  ModelTree tree;
  tree.name = "test";
  add_module(tree, kNone, "", "Model");
  const auto embed = add_module(tree, 0, "embed", "Embedding");
  add_tensor(tree, embed, "weight", DType::kBF16, {shape.vocabulary, shape.hidden});
  const auto layers = add_module(tree, 0, "layers", "ModuleList");
  for (std::uint64_t i = 0; i < shape.layers; ++i) {
    const auto layer = add_module(tree, layers, std::to_string(i), "Block", true);
    const bool unlike = shape.unlike_every > 0 && (i + 1) % shape.unlike_every == 0;
    const std::uint64_t quarter =
        shape.layer_bytes * (unlike ? shape.unlike_percent : 100) / 100 / 8;
    const auto attn = add_module(tree, layer, "attn", "Attention");
    add_tensor(tree, attn, "weight", DType::kBF16, {quarter});
    const auto mlp = add_module(tree, layer, "mlp", "Mlp");
    LayerFacts facts;
    if (i < shape.dense_layers || shape.experts == 0) {
      add_tensor(tree, mlp, "weight", DType::kBF16, {quarter, 3});
    } else {
      add_tensor(tree, mlp, "gate", DType::kBF16, {shape.hidden, shape.experts});
      const auto experts = add_module(tree, mlp, "experts", "Experts");
      tree.modules[experts].expert = true;
      add_tensor(tree, experts, "weight", DType::kBF16, {quarter, 3});
      facts.experts = shape.experts;
      facts.experts_per_token = 2;
    }
    facts.module = layer;
    const bool state = shape.state_bytes > 0 && !unlike;
    facts.kv_elements = state ? 0 : shape.kv_elements;
    facts.state_bytes = state ? shape.state_bytes : 0;
    facts.window = unlike ? 0 : shape.window;
    tree.facts.layers.push_back(facts);
  }
  const auto norm = add_module(tree, 0, "norm", "Norm");
  add_tensor(tree, norm, "weight", DType::kBF16, {shape.hidden});
  const auto head = add_module(tree, 0, "head", "Linear");
  add_tensor(tree, head, "weight", DType::kBF16, {shape.vocabulary, shape.hidden});
  if (shape.tied) tie_tensors(tree, {"embed.weight", "head.weight"});
  tree.facts.hidden = shape.hidden;
  tree.facts.intermediate = 4 * shape.hidden;
  tree.facts.vocabulary = shape.vocabulary;
  tree.facts.heads = 16;
  tree.facts.max_positions = 8192;
  tree.facts.embedding = embed;
  tree.facts.head = head;
  return tree;
}

std::string device_of(const ModelTree& tree, const Plan& plan, const std::string& tensor) {
  return plan.devices[plan.tensor_device[tensor_id(tree, tensor)]].name;
}

// What must hold for every plan, whatever the policy.
void expect_sound(const ModelTree& tree, const Plan& plan, const std::string& what) {
  ASSERT_EQ(plan.tensor_device.size(), tree.tensors.size()) << what;
  std::uint64_t over = 0;
  for (const DeviceLedger& row : plan.devices) {
    EXPECT_EQ(row.capacity + row.over,
              row.reserved + row.weights + row.kv_cache + row.workspace + row.free)
        << what << " " << row.name;
    EXPECT_TRUE(row.over == 0 || row.free == 0) << what;
    over += row.over;
  }
  EXPECT_FALSE(plan.fits() && over > 0) << what;

  std::map<std::uint32_t, std::set<TensorId>> storages;
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    ASSERT_LT(plan.tensor_device[t], plan.devices.size()) << what;
    const TensorId first = tree.tensors[t].tied_to;
    storages[plan.tensor_device[t]].insert(first == kNone ? t : first);
    const std::string* mapped = lookup(plan.device_map, tree.tensors[t].name);
    ASSERT_NE(mapped, nullptr) << what << " " << tree.tensors[t].name;
    const DeviceLedger& row = plan.devices[plan.tensor_device[t]];
    const bool host = row.kind == DeviceKind::kCpu;
    EXPECT_EQ(*mapped, host ? "cpu" : row.name) << what;
    if (plan.node_map.empty()) continue;
    const std::string* on_node = lookup(plan.node_map, tree.tensors[t].name);
    ASSERT_NE(on_node, nullptr) << what << " " << tree.tensors[t].name;
    EXPECT_EQ(*on_node, row.name == "cpu" ? "cpu:0" : row.name) << what;
  }
  std::vector<std::uint64_t> placed(plan.devices.size(), 0);
  for (const ModulePlacement& placement : plan.placement) {
    placed[placement.device] += placement.bytes;
    EXPECT_FALSE(placement.reason.empty()) << what;
  }
  for (std::uint32_t d = 0; d < plan.devices.size(); ++d) {
    std::uint64_t bytes = 0;
    for (TensorId t : storages[d]) bytes += tree.tensors[t].bytes();
    EXPECT_EQ(plan.devices[d].weights, bytes) << what;
    EXPECT_EQ(placed[d], bytes) << what;
  }
}

void expect_whole(const ModelTree& tree, const Plan& plan, const std::string& what) {
  const Chain chain = make_chain(tree, plan.workload);
  for (const Unit& unit : chain.units) {
    std::uint32_t experts = kNone;
    for (TensorId t : unit.tensors) {
      if (unit.experts == 0 || !is_expert_tensor(tree, t)) {
        EXPECT_EQ(plan.tensor_device[t], plan.tensor_device[unit.anchor]) << what;
        continue;
      }
      if (experts == kNone) experts = plan.tensor_device[t];
      EXPECT_EQ(plan.tensor_device[t], experts) << what;
    }
  }
}

}  // namespace berth

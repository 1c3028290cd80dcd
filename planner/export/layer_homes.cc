#include "planner/export/layer_homes.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "berth/error.h"
#include "planner/machine/sizes.h"
#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// By module: the index of the layer that it is in, or kNone.
std::vector<std::uint32_t> layers_by_module(const ModelTree& tree) {
  std::vector<std::uint32_t> layer_of(tree.modules.size(), kNone);
  for (std::uint32_t i = 0; i < tree.decoder_layers(); ++i) {
    layer_of[tree.facts.layers[i].module] = i;
  }
  for (ModuleId m = 1; m < tree.modules.size(); ++m) {  // parents come first
    if (layer_of[m] == kNone) layer_of[m] = layer_of[tree.modules[m].parent];
  }
  return layer_of;
}

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> ends) {
  return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) {
    return name.size() > end.size() && name.ends_with(end);
  });
}

// Which sublayer of `layer` the tensors of `module` belong to, by the names of the modules above
// it.
Sublayer sublayer_of(const ModelTree& tree, ModuleId module, ModuleId layer) {
  Sublayer sublayer = kAttention;
  for (ModuleId m = module; m != layer && m != kNone; m = tree.modules[m].parent) {
    if (tree.modules[m].expert) return kExperts;
    const std::string_view name = tree.modules[m].name;
    const bool of_gguf = name.substr(name.rfind('.') + 1).starts_with("ffn_");
    if (of_gguf || ends_with_any(name, {".mlp", ".ffn", ".feed_forward", ".fc1", ".fc2"})) {
      sublayer = kFeedForward;
    }
  }
  return sublayer;
}

bool runs_for_prompt(const ModelTree& tree, ModuleId module) {
  while (module != kNone && !tree.modules[module].prompt_only) module = tree.modules[module].parent;
  return module != kNone;
}

bool inside(const ModelTree& tree, ModuleId module, ModuleId outer) {
  while (module != kNone && module != outer) module = tree.modules[module].parent;
  return outer != kNone && module == outer;
}

}  // namespace

LayerHomes::LayerHomes(const ModelTree& tree, const Plan& from, const std::string& tool,
                       bool fold_disk)
    : plan(from),
      layers(tree.decoder_layers()),
      before(from.devices.size(), 0),
      after(from.devices.size(), 0),
      towers(from.devices.size(), 0),
      change_(from.devices.size(), 0) {
  if (layers.empty()) {
    throw Error(tool + ": the layers of " + tree.name + " are unknown (is there a config.json?)");
  }
  std::uint32_t host = kNone;  // the first NUMA node, which stands for all
  for (std::uint32_t d = 0; d < plan.devices.size(); ++d) {
    if (plan.devices[d].kind == DeviceKind::kCpu && host == kNone) host = d;
  }
  const std::vector<std::uint32_t> layer_of = layers_by_module(tree);
  bool starting = true;  // no tensor of a layer has been met yet
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const ModelTensor& tensor = tree.tensors[t];
    if (layer_of[tensor.module] != kNone) starting = false;
    if (!tensor.persistent) continue;
    std::uint32_t device = t < plan.tensor_device.size() ? plan.tensor_device[t] : kNone;
    if (device == kNone)
      throw Error(tool + ": the plan gives no device to " + std::string(tensor.name));
    if (fold_disk && plan.devices[device].kind == DeviceKind::kDisk && host != kNone) device = host;
    if (plan.devices[device].kind == DeviceKind::kCpu) device = host;
    const std::uint64_t bytes = tensor.tied_to == kNone ? tensor.bytes() : 0;
    const std::uint32_t i = layer_of[tensor.module];
    if (i == kNone) {
      add_outside(tree, tensor, device, bytes, starting);
      continue;
    }
    LayerHome& layer = layers[i];
    const Sublayer sublayer = sublayer_of(tree, tensor.module, tree.facts.layers[i].module);
    if (layer.device[sublayer] != kNone && layer.device[sublayer] != device) {
      static constexpr const char* kNames[] = {"attention", "feed-forward", "experts"};
      throw Error(tool + ": the plan cuts the " + kNames[sublayer] + " of layer " +
                  std::to_string(i) + " between " + label(layer.device[sublayer]) + " and " +
                  label(device));
    }
    layer.device[sublayer] = device;
    layer.bytes[sublayer] += bytes;
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].home() == kNone) {
      throw Error(tool + ": layer " + std::to_string(i) + " has no attention that could be placed");
    }
    layers[i].kv_bytes = kv_cache_bytes(tree.facts.layers[i], plan.workload);
  }
  if (head == kNone) head = embedding;  // the head is tied and has no tensor of its own
}

// A tensor of no layer.
void LayerHomes::add_outside(const ModelTree& tree, const ModelTensor& tensor, std::uint32_t device,
                             std::uint64_t bytes, bool starting) {
  if (runs_for_prompt(tree, tensor.module)) {
    towers[device] += bytes;
    return;
  }
  const bool is_embedding = inside(tree, tensor.module, tree.facts.embedding);
  const bool is_head = inside(tree, tensor.module, tree.facts.head) && !is_embedding;
  if (is_head && tensor.tied_to != kNone) tied = true;
  if (is_embedding) {
    embedding = device;
    embedding_bytes += bytes;
  }
  if (is_head) {
    head = device;
    head_bytes += bytes;
  }
  (is_embedding || (starting && !is_head) ? before : after)[device] += bytes;
}

bool LayerHomes::is_gpu(std::uint32_t device) const {
  return device != kNone && berth::is_gpu(plan.devices[device].kind);
}

std::string LayerHomes::label(std::uint32_t device) const {
  const std::string& name = plan.devices[device].name;
  return is_gpu(device) ? "gpu " + name : name;
}

std::vector<std::uint32_t> LayerHomes::gpus_in_order() const {
  std::vector<std::uint32_t> order;
  for (const LayerHome& layer : layers) {
    if (is_gpu(layer.home()) &&
        std::find(order.begin(), order.end(), layer.home()) == order.end()) {
      order.push_back(layer.home());
    }
  }
  return order;
}

LayerHomes::Gathered LayerHomes::gather() {
  const std::vector<std::uint32_t> gpus = gpus_in_order();
  const auto rank = [&](std::size_t i) {
    return is_gpu(layers[i].home())
               ? 1 + (std::find(gpus.begin(), gpus.end(), layers[i].home()) - gpus.begin())
               : 0;
  };
  const auto earlier = [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); };
  std::vector<std::size_t> order(layers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (std::is_sorted(order.begin(), order.end(), earlier)) return Gathered::kAsTheyWere;
  std::stable_sort(order.begin(), order.end(), earlier);

  std::vector<LayerHome> moved = layers;
  for (std::size_t i = 0; i < layers.size(); ++i) moved[i].device = layers[order[i]].device;
  std::vector<std::int64_t> change(plan.devices.size(), 0);
  const auto count = [&](const LayerHome& layer, int sign) {
    for (std::size_t sublayer = 0; sublayer < kSublayers; ++sublayer) {
      const std::uint32_t device =
          layer.device[sublayer] == kNone ? layer.home() : layer.device[sublayer];
      change[device] += sign * static_cast<std::int64_t>(layer.bytes[sublayer]);
    }
    change[layer.home()] += sign * static_cast<std::int64_t>(layer.kv_bytes);
  };
  for (const LayerHome& layer : layers) count(layer, -1);
  for (const LayerHome& layer : moved) count(layer, +1);
  for (std::uint32_t d = 0; d < change.size(); ++d) {
    if (change[d] <= 0 || has_space(d, static_cast<std::uint64_t>(change[d]))) continue;
    no_space = "with the layers of each device together, " +
               excess(d, static_cast<std::uint64_t>(change[d]));
    return Gathered::kNoSpace;
  }
  for (std::uint32_t d = 0; d < change.size(); ++d) change_[d] += change[d];
  layers = std::move(moved);
  return Gathered::kMoved;
}

// What is left of the space that the plan leaves free; on the host, of that of all NUMA nodes.
std::uint64_t LayerHomes::free_on(std::uint32_t device) const {
  std::uint64_t planned = plan.devices[device].free;
  if (plan.devices[device].kind == DeviceKind::kCpu) {
    planned = 0;
    for (const DeviceLedger& row : plan.devices) {
      if (row.kind == DeviceKind::kCpu) planned += row.free;
    }
  }
  const auto free = static_cast<std::int64_t>(
      std::min<std::uint64_t>(planned, std::numeric_limits<std::int64_t>::max()));
  return static_cast<std::uint64_t>(std::max<std::int64_t>(free - change_[device], 0));
}

bool LayerHomes::has_space(std::uint32_t device, std::uint64_t more) const {
  return !plan.fits() || more <= free_on(device);
}

std::string LayerHomes::excess(std::uint32_t device, std::uint64_t more) const {
  return label(device) + " would hold " + format_size(more) + " more than planned, where " +
         format_size(free_on(device)) + " is free";
}

void LayerHomes::require_space(std::uint32_t device, std::uint64_t more, const std::string& what) {
  if (!has_space(device, more)) throw NoSpace(what + " " + excess(device, more));
  change_[device] += static_cast<std::int64_t>(more);
}

void LayerHomes::give_back(std::uint32_t device, std::uint64_t less) {
  change_[device] -= static_cast<std::int64_t>(less);
}

std::uint64_t LayerHomes::held(std::uint32_t device) const {
  const DeviceLedger& row = plan.devices[device];
  const std::int64_t sum = static_cast<std::int64_t>(row.weights + row.kv_cache + row.workspace);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(sum + change_[device], 0));
}

std::uint64_t elsewhere(const std::vector<std::uint64_t>& bytes, std::uint32_t device) {
  std::uint64_t sum = 0;
  for (std::uint32_t d = 0; d < bytes.size(); ++d) sum += d == device ? 0 : bytes[d];
  return sum;
}

}  // namespace berth

#include "planner/cost/memory.h"

#include <algorithm>

#include "planner/model/tree/dequantization.h"

namespace berth {

SharedStorage::SharedStorage(const ModelTree& tree) : tree_(tree) {
  if (tree.ties.empty()) return;
  tied_.assign(tree.tensors.size(), false);
  for (const auto& group : tree.ties) {
    for (const TensorId t : group) tied_[t] = true;
  }
}

bool SharedStorage::add(std::uint32_t device, TensorId tensor) {
  const TensorId first = tree_.tensors[tensor].tied_to;
  return seen_.emplace(device, first == kNone ? tensor : first).second;
}

namespace {

// A budget of `cpu` is one of host RAM. If that is several NUMA nodes, the nodes without a budget
// of their own share it, in order.
void divide_host_budget(const Machine& machine, const Request& request,
                        std::vector<Space>& spaces) {
  const auto budget_of = [&](const std::string& name) -> const Budget* {
    if (!request.max_memory) return nullptr;
    const auto found = std::find_if(request.max_memory->begin(), request.max_memory->end(),
                                    [&](const Budget& budget) { return budget.device == name; });
    return found == request.max_memory->end() ? nullptr : &*found;
  };
  const Budget* const whole = budget_of("cpu");
  if (whole == nullptr) return;
  std::uint64_t left = std::min(whole->bytes, kUnlimited);
  Space* last = nullptr;
  for (std::size_t d = 0; d < spaces.size(); ++d) {
    const Device& device = machine.devices[d];
    if (device.kind != DeviceKind::kCpu) continue;
    if (device.name != "cpu" && budget_of(device.name) != nullptr) continue;
    last = &spaces[d];
    last->weight_bytes = last->budget_only ? left : std::min(left, last->bytes);
    left -= last->weight_bytes;
  }
  if (last != nullptr) last->weight_bytes += left;
}

}  // namespace

std::vector<Space> device_spaces(const Machine& machine, const Request& request) {
  std::vector<Space> spaces;
  for (const Device& device : machine.devices) {
    Space space;
    const std::uint64_t context = is_gpu(device.kind) ? kCudaContext : 0;
    space.reserved = context + std::min(device.reserve, kUnlimited);
    space.budget_only = machine.source == kBudgetSource || device.description == kBudgetDevice;
    const std::uint64_t capacity = std::min(device.capacity, kUnlimited);
    space.bytes = capacity > space.reserved ? capacity - space.reserved : 0;
    if (space.budget_only) {
      space.bytes = kUnlimited;
      space.weight_bytes = capacity;
    }
    if (request.max_memory) {
      for (const Budget& budget : *request.max_memory) {
        if (budget.device == device.name) {
          space.weight_bytes = std::min(budget.bytes, kUnlimited);
        }
      }
    }
    spaces.push_back(space);
  }
  divide_host_budget(machine, request, spaces);
  return spaces;
}

Ledger make_ledger(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<Space>& spaces, const TimeModel& time,
                   const std::vector<std::uint32_t>& tensor_device, const StreamBuffers& buffers) {
  Ledger ledger;
  for (std::size_t d = 0; d < machine.devices.size(); ++d) {
    DeviceLedger row;
    row.name = machine.devices[d].name;
    row.kind = machine.devices[d].kind;
    row.reserved = spaces[d].reserved;
    ledger.devices.push_back(row);
  }
  SharedStorage shared(tree);
  std::vector<std::uint64_t> computed(machine.devices.size(), 0);  // buffers that are not stored
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const std::uint32_t device = tensor_device[t];
    if (device == kNone) continue;
    if (!tree.tensors[t].persistent) {
      computed[device] += chain.bytes[t];
    } else if (shared.first(device, t)) {
      ledger.devices[device].weights += chain.bytes[t];
    }
  }
  std::vector<std::uint64_t>& activation = ledger.activation;
  activation.assign(machine.devices.size(), 0);
  std::vector<std::uint64_t> logits(machine.devices.size(), 0);
  std::vector<std::uint64_t> from_disk(machine.devices.size(), 0);  // the largest buffer of a unit
  for (const Unit& unit : chain.units) {
    std::uint64_t dense = 0;  // read from the disk
    std::uint64_t experts = 0;
    for (TensorId t : unit.tensors) {
      if (tensor_device[t] == kNone) continue;
      const std::uint32_t runner = time.runs_on(tensor_device[t]);
      activation[runner] = std::max(activation[runner], unit.activation);
      if (runner == tensor_device[t]) continue;
      if (!tree.tensors[t].persistent) continue;
      const bool routed = unit.expert_bytes > 0 && chain.expert[t] != 0;
      (routed ? experts : dense) += chain.bytes[t];
      from_disk[runner] = std::max(from_disk[runner], buffer_bytes(unit, dense, experts));
    }
    if (unit.tensors.empty() || tensor_device[unit.anchor] == kNone) continue;
    const std::uint32_t home = time.runs_on(tensor_device[unit.anchor]);
    ledger.devices[home].kv_cache += unit.kv_bytes;
    logits[home] += unit.logits;
  }
  const auto buffer = [&](std::size_t d) {
    return d < buffers.bytes.size() ? buffers.bytes[d] : 0;
  };
  for (std::size_t d = 0; d < buffers.activation.size(); ++d) {
    activation[d] = std::max(activation[d], buffers.activation[d]);
  }
  for (std::size_t d = 0; d < ledger.devices.size(); ++d) {
    DeviceLedger& row = ledger.devices[d];
    row.workspace = computed[d] + activation[d] + logits[d] + 2 * from_disk[d] + 2 * buffer(d);
    const std::uint64_t used = row.reserved + row.weights + row.kv_cache + row.workspace;
    if (spaces[d].budget_only) {
      row.capacity = used - row.weights + spaces[d].weight_bytes;
    } else {
      row.capacity = machine.devices[d].capacity;
    }
    // A device that is not used is not over, even if it is smaller than what is reserved on it.
    const std::uint64_t reserved = row.weights == 0 && row.kv_cache == 0 && row.workspace == 0
                                       ? std::min(row.reserved, row.capacity)
                                       : row.reserved;
    row.reserved = reserved;
    const std::uint64_t total = row.reserved + row.weights + row.kv_cache + row.workspace;
    row.free = row.capacity > total ? row.capacity - total : 0;
    row.over = total > row.capacity ? total - row.capacity : 0;
    std::uint64_t budget_short = 0;
    if (row.weights > spaces[d].weight_bytes) budget_short = row.weights - spaces[d].weight_bytes;
    ledger.short_bytes += std::max(row.over, budget_short);
  }
  return ledger;
}

std::uint64_t table_share(std::uint64_t staging, std::uint64_t largest) {
  return largest == 0 ? 0 : std::max(staging / 4, largest);
}

LoadPeak load_peak(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<std::uint32_t>& tensor_device, CpuMemory mode,
                   std::uint64_t staging) {
  LoadPeak peak;
  std::uint64_t staged = 0;
  std::uint64_t in_place = 0;        // bytes that end in private memory of the host unchanged
  std::uint64_t largest_tables = 0;  // of one weight, while it passes through the staging
  SharedStorage shared(tree);
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const ModelTensor& tensor = tree.tensors[t];
    const bool tied = tensor.tied_to != kNone;
    const bool made = tensor.dequantization != kNone;
    const bool converted = made || tensor.stored != tensor.dtype || tensor.rearranged;
    const std::uint64_t bytes = chain.bytes[t];
    const std::uint64_t stored = converted ? tree.stored_bytes(tensor) : bytes;
    if (!tied || (tensor.source != kNone && tensor.source != tree.tensors[tensor.tied_to].source)) {
      if (tensor.persistent) peak.naive_host_bytes += stored;
    }
    if (!tied) peak.naive_host_bytes += bytes;
    const std::uint32_t device = tensor_device[t];
    if (device == kNone || !tensor.persistent || !shared.first(device, t)) continue;
    if (made && machine.devices[device].kind != DeviceKind::kDisk) {
      const std::uint64_t tables = tree.quantized->weights[tensor.dequantization].table_bytes;
      largest_tables = std::max(largest_tables, tables);
      staged += tables;
    }
    switch (machine.devices[device].kind) {
      case DeviceKind::kCuda:
      case DeviceKind::kOther:
        staged += stored;
        break;
      case DeviceKind::kCpu:
        if (mode != CpuMemory::kMmap || converted) peak.host_bytes += bytes;
        if (converted) {
          staged += stored;
        } else if (mode != CpuMemory::kMmap) {
          in_place += bytes;
        }
        break;
      case DeviceKind::kDisk:
        break;
    }
  }
  peak.naive_host_bytes += tree.ignored_bytes;
  staged += std::min(in_place, kMostBounced);
  // A quarter of the staging is for the tables of quantised weights; the tables of a single weight
  // may need more than that, and then the staging grows.
  const std::uint64_t share = table_share(staging, largest_tables);
  peak.host_bytes += std::min(largest_tables > 0 ? staging - staging / 4 + share : staging, staged);
  return peak;
}

}  // namespace berth

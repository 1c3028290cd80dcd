#include "planner/cost/inputs.h"

#include <algorithm>

#include "berth/error.h"
#include "planner/base/error_kinds.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/cost/host_nodes.h"
#include "planner/plan/budget.h"
#include "planner/plan/device_map.h"
#include "planner/plan/policies.h"

namespace berth {
namespace {

// The machine with defaults for what it leaves open, with the devices that only --max-memory names,
// and with the disk that Accelerate's policies always have.
Machine complete(Machine machine, const Request& request) {
  std::vector<Budget> budgets = request.max_memory.value_or(std::vector<Budget>{});
  if (placer_of(request) == Placer::kAccelerate) budgets.push_back({"disk", kUnlimited});
  if (!budgets.empty()) {
    for (const Budget& budget : budgets) {
      if (machine.find(budget.device) != nullptr) continue;
      if (names_host(budget.device) && machine.find("cpu") != nullptr) {
        throw Error("max_memory: there is no device " + quote(budget.device) + " on " +
                    machine.source + ": its host RAM is one NUMA node, cpu");
      }
      const Machine known = budget_machine({budget});
      Device device = known.devices[0];
      device.description = kBudgetDevice;
      const auto after =
          std::find_if(machine.devices.begin(), machine.devices.end(), [&](const Device& other) {
            if (device.kind != other.kind) return device.kind < other.kind;
            return device.name.size() != other.name.size() ? device.name.size() < other.name.size()
                                                           : device.name < other.name;
          });
      machine.devices.insert(after, device);
    }
  }
  fill_defaults(machine);
  return machine;
}

std::string known_devices(const Machine& machine) {
  return join(machine.devices, ", ", &Device::name);
}

void require_device(const Machine& machine, const std::string& name, const std::string& where) {
  if (machine.find(name) != nullptr) return;
  throw Error(where + ": there is no device " + quote(name) + " on " + machine.source +
              " (devices: " + known_devices(machine) + ")");
}

// Fills PlanInputs::pinned and pinned_by. A glob that matches a module stands for everything inside
// it; the first override that matches a tensor wins. Tensors that share storage are pinned
// together. Throws Error for an unknown or excluded device and for a glob that matches nothing.
void pin(PlanInputs& inputs) {
  const ModelTree& tree = inputs.tree;
  inputs.pinned.assign(tree.tensors.size(), kNone);
  inputs.pinned_by.assign(tree.tensors.size(), kNone);
  for (std::uint32_t i = 0; i < inputs.request.overrides.size(); ++i) {
    Override& override_ = inputs.request.overrides[i];
    override_.device = normal_device_name(override_.device);
    const std::string where = "override " + quote(override_.match);
    require_device(inputs.machine, override_.device, where);
    const std::uint32_t device = inputs.device(override_.device);
    if (!inputs.usable[device]) {
      throw Error(where + ": device " + quote(override_.device) + " is excluded");
    }
    std::vector<bool> inside(tree.modules.size(), false);
    bool any = false;
    for (ModuleId m = 0; m < tree.modules.size(); ++m) {  // parents come first
      const ModuleId parent = tree.modules[m].parent;
      inside[m] = (parent != kNone && inside[parent]) ||
                  (m != 0 && glob_matches(override_.match, tree.modules[m].name));
    }
    for (TensorId t = 0; t < tree.tensors.size(); ++t) {
      if (!inside[tree.tensors[t].module] && !glob_matches(override_.match, tree.tensors[t].name)) {
        continue;
      }
      any = true;
      if (inputs.pinned[t] != kNone) continue;
      inputs.pinned[t] = device;
      inputs.pinned_by[t] = i;
    }
    if (!any) throw NoSuchName(where + ": matches no module and no tensor of " + tree.name);
  }
  std::vector<bool> on_host(tree.tensors.size(), false);
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const std::uint32_t by = inputs.pinned_by[t];
    on_host[t] = by != kNone && inputs.request.overrides[by].device == "cpu";
  }
  fill_nodes(tree, inputs.machine, inputs.chain, inputs.spaces, inputs.usable, on_host,
             inputs.pinned);
  for (const auto& group : tree.ties) {
    for (TensorId t : group) {
      if (inputs.pinned[t] == kNone) continue;
      for (TensorId other : group) {
        inputs.pinned[other] = inputs.pinned[t];
        inputs.pinned_by[other] = inputs.pinned_by[t];
      }
      break;
    }
  }
}

// By device: whether it may be used. Also rewrites the names in `request.excluded` as the machine
// spells them. Throws Error for one that the machine does not have.
std::vector<bool> usable_devices(const Machine& machine, Request& request) {
  std::vector<bool> usable(machine.devices.size(), true);
  for (std::string& name : request.excluded) {
    name = normal_device_name(name);
    require_device(machine, name, "exclude");
    for (std::size_t d = 0; d < usable.size(); ++d) {
      const bool node = name == "cpu" && names_host(machine.devices[d].name);
      if (node || machine.devices[d].name == name) usable[d] = false;
    }
  }
  return usable;
}

// Who should compute what stands on the disk if both could: the host, unless it is so small or so
// slow that the model would run sooner without it. Compared are the seconds a byte of weights for a
// model of which share s fits into host RAM. The host's memory reads h bytes a second, the disk d,
// a GPU's memory g. If the host takes part, s is read at h instead of d, which gains s x (1/d -
// 1/h); the rest is computed at h instead of g, which loses (1 - s) x (1/h - 1/g).
DiskRunner better_disk_runner(const Machine& machine, const std::vector<Space>& spaces,
                              const std::vector<bool>& usable, const Chain& chain) {
  double disk = 0;
  double host = 0;
  double gpu = 0;
  double space = 0;
  for (std::size_t d = 0; d < machine.devices.size(); ++d) {
    const Device& device = machine.devices[d];
    if (!usable[d] || device.memory_bandwidth <= 0) continue;
    double& rate = device.kind == DeviceKind::kDisk  ? disk
                   : device.kind == DeviceKind::kCpu ? host
                                                     : gpu;
    rate = std::max(rate, device.memory_bandwidth);
    if (device.kind == DeviceKind::kCpu) {
      space += static_cast<double>(std::min(spaces[d].bytes, spaces[d].weight_bytes));
    }
  }
  double weights = 0;
  for (const Unit& unit : chain.units) weights += static_cast<double>(unit.weights);
  if (disk <= 0 || host <= 0 || gpu <= 0 || weights <= 0) return DiskRunner::kHost;
  const double share = std::min(1.0, space / weights);
  const double gained = share * (1 / disk - 1 / host);
  const double lost = (1 - share) * (1 / host - 1 / gpu);
  return gained >= lost ? DiskRunner::kHost : DiskRunner::kGpu;
}

}  // namespace

PlanInputs::PlanInputs(const ModelTree& model_tree, const Machine& on, const Request& asked)
    : tree(model_tree),
      request(asked),
      machine(complete(on, asked)),
      workload(fill_workload(model_tree, asked.workload)),
      chain(make_chain(model_tree, workload, asked.no_split)),
      spaces(device_spaces(machine, asked)),
      usable(usable_devices(machine, request)),
      time(machine, chain, workload, usable,
           request.disk_runner.value_or(better_disk_runner(machine, spaces, usable, chain))),
      level(machine.devices.size(), 0) {
  for (Priority& priority : request.priority) {
    priority.device = normal_device_name(priority.device);
    require_device(machine, priority.device, "priority");
    const std::uint32_t d = device(priority.device);
    if (!is_gpu(d)) {
      throw Error("priority: " + quote(priority.device) +
                  " is not a GPU; the cpu and the disk are used where the GPUs are full");
    }
    level[d] = priority.level;
  }
  if (request.max_memory) {
    for (std::size_t i = 0; i < request.max_memory->size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if ((*request.max_memory)[i].device == (*request.max_memory)[j].device) {
          throw Error("max_memory: device " + quote((*request.max_memory)[i].device) +
                      " is given twice");
        }
      }
    }
  }
  pin(*this);
}

bool PlanInputs::may_change_runner() const {
  const std::uint32_t disk = device("disk");
  return disk != kNone && usable[disk] && !request.disk_runner && time.host() != kNone &&
         time.gpu_for_disk() != kNone;
}

std::uint32_t PlanInputs::device(std::string_view name) const {
  for (std::uint32_t d = 0; d < machine.devices.size(); ++d) {
    if (machine.devices[d].name == name) return d;
  }
  return kNone;
}

std::string PlanInputs::label(std::uint32_t d) const {
  return is_gpu(d) ? "gpu " + machine.devices[d].name : machine.devices[d].name;
}

}  // namespace berth

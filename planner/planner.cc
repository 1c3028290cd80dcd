// make_plan(): the policy that the request names decides where every tensor goes; the memory
// ledger, the estimate and the verdict (does it fit?) are then worked out in the same way for all
// policies.
#include "berth/planner.h"

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <utility>

#include "berth/error.h"
#include "planner/accelerate/accelerate.h"
#include "planner/base/saturating.h"
#include "planner/cost/host_nodes.h"
#include "planner/cost/inputs.h"
#include "planner/cost/pricing.h"
#include "planner/explain/placements.h"
#include "planner/explain/reasons.h"
#include "planner/explain/shortfall.h"
#include "planner/follow_map.h"
#include "planner/machine/sizes.h"
#include "planner/plan/budget.h"
#include "planner/plan/device_map.h"
#include "planner/plan/policies.h"
#include "planner/search/auto.h"
#include "planner/try_plan.h"

namespace berth {
namespace {

// What a policy decides; the rest of a plan follows from it.
struct Decision {
  std::vector<std::uint32_t> tensor_device;
  DeviceMap device_map;                            // empty: it is to be made from `tensor_device`
  std::map<std::uint32_t, std::string> by_device;  // why modules stand on a device, by device
  std::vector<std::string> notes;
  std::optional<double> gap;  // Estimate::optimality_gap, where the policy proves one
  std::uint64_t missing = 0;  // bytes that the policy found to be missing; 0: it fits
  bool packed = false;        // no contiguous runs fit: AutoPlan::packed
};

std::vector<std::string> device_names(const Machine& machine) {
  std::vector<std::string> names;
  for (const Device& device : machine.devices) names.push_back(device.name);
  return names;
}

// Moves the tensors that overrides pin to their devices. Our own policies take overrides into
// account themselves; the placements of Accelerate and of device maps are corrected here
// afterwards.
void apply_pins(const PlanInputs& inputs, Decision& decision) {
  bool any = false;
  for (TensorId t = 0; t < inputs.pinned.size(); ++t) {
    if (inputs.pinned[t] == kNone || inputs.pinned[t] == decision.tensor_device[t]) continue;
    decision.tensor_device[t] = inputs.pinned[t];
    any = true;
  }
  if (any) decision.device_map.clear();
}

// Places the model as Accelerate would. That depends on the tree and the budgets alone, so that it
// can run before and beside PlanInputs.
AccelerateResult place_as_accelerate(const ModelTree& tree, const Machine& machine,
                                     const Request& request) {
  std::vector<Budget> given;
  if (request.max_memory) {
    given = *request.max_memory;
  } else {
    for (const Device& device : machine.devices) {
      if (device.kind != DeviceKind::kDisk) given.push_back({device.name, device.capacity});
    }
  }
  const auto is_excluded = [&](const std::string& device) {
    return std::any_of(request.excluded.begin(), request.excluded.end(), [&](const auto& named) {
      const std::string name = normal_device_name(named);
      return name == device || (name == "cpu" && names_host(device));
    });
  };
  std::vector<Budget> budgets;
  Budget* host = nullptr;
  budgets.reserve(given.size());  // `host` points into it
  for (const Budget& budget : given) {
    if (is_excluded(budget.device)) continue;
    if (names_host(budget.device) && host != nullptr && budget.device != "cpu") {
      host->bytes = plus(host->bytes, budget.bytes);  // Accelerate knows one `cpu`
      continue;
    }
    budgets.push_back({names_host(budget.device) ? "cpu" : budget.device, budget.bytes});
    if (names_host(budget.device)) host = &budgets.back();
  }
  return accelerate_place(tree, request.policy, budgets, !request.max_memory.has_value());
}

// Divides the tensors that are meant for host RAM as a whole among its NUMA nodes.
template <typename OnHost>
void divide_host(const PlanInputs& inputs, Decision& decision, const OnHost& on_host) {
  if (host_nodes(inputs.machine, inputs.usable).size() < 2) return;
  std::vector<bool> divided;
  for (TensorId t = 0; t < decision.tensor_device.size(); ++t) divided.push_back(on_host(t));
  fill_nodes(inputs.tree, inputs.machine, inputs.chain, inputs.spaces, inputs.usable, divided,
             decision.tensor_device);
}

Decision decide_accelerate(const PlanInputs& inputs, AccelerateResult result) {
  const Request& request = inputs.request;
  Decision decision;
  decision.notes = std::move(result.notes);
  decision.device_map = std::move(result.device_map);
  const std::vector<std::uint32_t> nodes = host_nodes(inputs.machine, inputs.usable);
  std::vector<std::uint32_t> device_of;
  bool first = true;
  for (const Budget& budget : result.budgets) {
    const bool host = budget.device == "cpu" && !nodes.empty();
    const std::uint32_t d = host ? nodes[0] : inputs.device(budget.device);
    device_of.push_back(d);
    if (d == kNone) continue;
    const bool holds_back = (first && budget.device != "disk") || budget.device == "cpu";
    decision.by_device[d] =
        budget.device == "disk"
            ? "no budget had space left"
            : "next in order, within its budget of " + format_size(budget.bytes) +
                  (holds_back ? " less space for the largest layer to come" : "");
    for (std::size_t i = 1; host && i < nodes.size(); ++i) {
      decision.by_device[nodes[i]] = decision.by_device[d];
    }
    first = false;
  }
  for (std::uint32_t index : result.tensor_device) {
    if (device_of[index] == kNone) {
      throw Error(std::string(policy_name(request.policy)) +
                  ": the model overflows to the disk, and the machine has none");
    }
    decision.tensor_device.push_back(device_of[index]);
  }
  divide_host(inputs, decision,
              [&](TensorId t) { return result.budgets[result.tensor_device[t]].device == "cpu"; });
  apply_pins(inputs, decision);
  return decision;
}

Decision decide_map(const PlanInputs& inputs) {
  FollowedMap followed = follow_map(inputs);
  Decision decision;
  decision.tensor_device = std::move(followed.tensor_device);
  decision.device_map = std::move(followed.device_map);
  decision.notes = std::move(followed.notes);
  divide_host(inputs, decision, [&](TensorId t) { return followed.whole_host[t]; });
  for (std::uint32_t d = 0; d < inputs.machine.devices.size(); ++d) {
    decision.by_device[d] = "as the device map says";
  }
  apply_pins(inputs, decision);
  return decision;
}

// How often the activation goes from one device to another on its way along the chain, and to
// experts aside and back.
std::size_t count_hops(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device) {
  const PlacedUnits placed = placed_units(inputs.chain, tensor_device);
  std::size_t hops = 0;
  std::uint32_t at = kNone;
  for (std::size_t u = 0; u < inputs.chain.units.size(); ++u) {
    const std::uint32_t first = placed.begin[u];
    const std::uint32_t last = placed.begin[u + 1];
    if (first == last) continue;
    if (at != kNone && placed.pieces[first].device != at) ++hops;
    hops += 2 * (last - first - 1);
    at = placed.pieces[first].device;
  }
  return hops;
}

// Says where the search had to leave contiguous runs, and where it stopped at its limit.
void note_packing(const PlanInputs& inputs, const AutoPlan& plan, Decision& decision) {
  if (plan.packed) {
    decision.notes.push_back(
        "one run of layers for each device does not fit: layers are packed in another order, "
        "with " +
        std::to_string(count_hops(inputs, plan.tensor_device)) + " hops between devices");
  }
  if (!plan.stopped) return;
  decision.notes.push_back(
      plan.fits ? "the search for other orders of layers stopped at its limit: devices that are "
                  "preferred may hold more than this plan puts there"
                : "the search for other orders of layers stopped at its limit: it may have missed "
                  "one that fits");
}

Decision decide_auto(const PlanInputs& inputs) {
  AutoPlan plan = auto_place(inputs);
  Decision decision;
  if (!plan.exact) {
    decision.notes.push_back(
        "there are more unlike devices or layers than the planner can try in every order, so it "
        "may have missed the best pipeline; the estimate says how far from optimal this one can "
        "be");
  }
  note_packing(inputs, plan, decision);
  decision.packed = plan.packed && plan.fits;
  if (!plan.fits) decision.missing = std::max<std::uint64_t>(plan.missing, 1);
  decision.tensor_device = std::move(plan.tensor_device);
  decision.gap = plan.gap;
  return decision;
}

bool stands_on_disk(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device) {
  return std::any_of(tensor_device.begin(), tensor_device.end(), [&](std::uint32_t d) {
    return d != kNone && inputs.machine.devices[d].kind == DeviceKind::kDisk;
  });
}

// The inputs with the other of CPU and GPU computing what stands on the disk.
std::unique_ptr<PlanInputs> with_other_runner(const PlanInputs& inputs, const ModelTree& tree,
                                              const Machine& machine, const Request& request) {
  Request other = request;
  other.disk_runner = other_than(inputs.time.disk_runner());
  return std::make_unique<PlanInputs>(tree, machine, other);
}

// Decides for `auto` and `throughput`. Layers on the disk are computed by the device that
// PlanInputs chose (the CPU or a GPU). If nothing fits that way and the request leaves it open, the
// other one is tried; it is taken if less memory is missing then. `inputs` becomes what the
// decision is for.
Decision decide_own(const ModelTree& tree, const Machine& machine, const Request& request,
                    std::unique_ptr<PlanInputs>& inputs) {
  Decision decision = decide_auto(*inputs);
  if (decision.missing == 0 || !inputs->may_change_runner()) return decision;
  std::unique_ptr<PlanInputs> other = with_other_runner(*inputs, tree, machine, request);
  Decision second = decide_auto(*other);
  if (second.missing >= decision.missing) return decision;
  inputs = std::move(other);
  return second;
}

// The same choice for a placement that is decided already: if it does not fit, and would lack less
// with the other device computing what stands on the disk, `inputs` becomes that.
void settle_runner(const ModelTree& tree, const Machine& machine, const Request& request,
                   const std::vector<std::uint32_t>& tensor_device,
                   std::unique_ptr<PlanInputs>& inputs) {
  if (!inputs->may_change_runner() || !stands_on_disk(*inputs, tensor_device)) return;
  const auto short_by = [&](const PlanInputs& with) {
    return make_ledger(tree, with.machine, with.chain, with.spaces, with.time, tensor_device)
        .short_bytes;
  };
  const std::uint64_t missing = short_by(*inputs);
  if (missing == 0) return;
  std::unique_ptr<PlanInputs> other = with_other_runner(*inputs, tree, machine, request);
  if (short_by(*other) < missing) inputs = std::move(other);
}

// Sets the plan's staging and load peak. The peak is the host memory that loading takes: weights in
// private memory, and the staging beside them. If that is more than the host has, staging is made
// smaller, down to 16 MiB; less makes loading too slow. If no more than kMostBounced bytes pass
// through the staging, 256 KiB are enough, the least that a load takes. Returns the bytes that are
// missing all the same; 0 if it fits.
std::uint64_t settle_load(const PlanInputs& inputs, const Ledger& ledger, Plan& plan) {
  constexpr std::uint64_t kUsefulStaging = 16ull << 20;
  constexpr std::uint64_t kLeastOfAll = 256ull << 10;
  const auto peak = [&](std::uint64_t staging) {
    return load_peak(inputs.tree, inputs.machine, inputs.chain, plan.tensor_device, plan.cpu_memory,
                     staging);
  };
  plan.load_peak = peak(plan.staging);
  std::uint64_t space = 0;  // of all NUMA nodes
  bool known = false;
  for (std::uint32_t d = 0; d < inputs.machine.devices.size(); ++d) {
    if (inputs.machine.devices[d].kind != DeviceKind::kCpu) continue;
    if (inputs.spaces[d].budget_only || ledger.devices[d].over > 0) return 0;
    known = true;
    space += inputs.spaces[d].bytes;
  }
  if (!known || plan.load_peak.host_bytes <= space) return 0;
  const std::uint64_t bare = peak(0).host_bytes;
  const bool little = peak(UINT64_MAX).host_bytes - bare <= kMostBounced;
  plan.staging = std::max(little ? kLeastOfAll : kUsefulStaging, space > bare ? space - bare : 0);
  plan.load_peak = peak(plan.staging);
  return plan.load_peak.host_bytes > space ? plan.load_peak.host_bytes - space : 0;
}

// Sets the plan's estimate. Layers in host RAM are streamed through a GPU if that is quicker and
// the GPU has space for the stream buffers, which then go into `ledger`. Returns what is streamed.
Streaming price_plan(const PlanInputs& inputs, Ledger& ledger, Plan& plan) {
  const Pricing pricing(inputs.machine, inputs.chain, inputs.time, inputs.usable);
  const PlacedUnits placed = placed_units(inputs.chain, plan.tensor_device);
  std::vector<std::uint64_t> spare;
  for (std::size_t d = 0; d < ledger.devices.size(); ++d) {
    const DeviceLedger& row = ledger.devices[d];
    // Not `row.free`: an unused device that is smaller than its own reserve has a ledger that adds
    // up (make_ledger()), but no space that could be used. `spaces` leaves out what is reserved.
    const std::uint64_t used = row.weights + row.kv_cache + row.workspace;
    const std::uint64_t space = inputs.spaces[d].bytes;
    spare.push_back(space > used ? space - used : 0);
  }
  const Pricing::Priced priced = pricing.best(placed, spare, ledger.activation);
  const Streaming& streaming = priced.streaming;
  if (streaming.any()) {
    ledger = make_ledger(inputs.tree, inputs.machine, inputs.chain, inputs.spaces, inputs.time,
                         plan.tensor_device, priced.buffers);
    const auto most = std::max_element(priced.buffers.bytes.begin(), priced.buffers.bytes.end()) -
                      priced.buffers.bytes.begin();
    plan.streamer = streaming.gpu == kNone ? static_cast<std::uint32_t>(most) : streaming.gpu;
    plan.stream_buffer_bytes = priced.buffers.bytes[plan.streamer];
    const char* when = streaming.prompt && streaming.token ? ""
                       : streaming.prompt                  ? " for the prompt"
                                                           : " for each token";
    const bool whole = host_nodes(inputs.machine, inputs.usable).size() < 2;
    plan.notes.push_back("the estimate assumes that what stands " +
                         std::string(whole ? "in host RAM" : "on cpu") + " is streamed through " +
                         (streaming.gpu == kNone ? std::string("the gpu of its layer")
                                                 : inputs.label(streaming.gpu)) +
                         when + ", where that is quicker than computing on the cpu");
  }
  plan.estimate = pricing.estimate(placed, streaming);
  return streaming;
}

// Adds notes if the prompt and the new tokens are more than the context, or the context is more
// than the positions that the model knows.
void note_workload(const PlanInputs& inputs, const Workload& asked, Plan& plan) {
  const Workload& workload = inputs.workload;
  const std::string context = std::to_string(workload.context);
  if (asked.prompt_tokens > workload.context) {
    plan.notes.push_back("a prompt of " + std::to_string(asked.prompt_tokens) +
                         " tokens is more than the context: planned and priced with " + context);
  } else if (workload.prompt_tokens + workload.new_tokens > workload.context) {
    plan.notes.push_back(std::to_string(workload.prompt_tokens) + " prompt tokens and " +
                         std::to_string(workload.new_tokens) +
                         " new ones are more than the context of " + context +
                         ": the KV cache is planned for the context alone");
  }
  const std::uint64_t most = inputs.tree.facts.max_positions;
  if (most > 0 && workload.context > most) {
    plan.notes.push_back("a context of " + context + " is more than the " + std::to_string(most) +
                         " positions that the model knows");
  }
}

// Adds a note where a GPU of which only the budget of weights is known must have more memory than
// that for the plan to fit.
void note_budgets(const PlanInputs& inputs, const Ledger& ledger, Plan& plan) {
  std::string taken;
  for (std::size_t d = 0; d < ledger.devices.size(); ++d) {
    const DeviceLedger& row = ledger.devices[d];
    if (!inputs.spaces[d].budget_only || row.kind != DeviceKind::kCuda) continue;
    const std::uint64_t used = row.reserved + row.weights + row.kv_cache + row.workspace;
    if (row.weights == 0 || used <= inputs.spaces[d].weight_bytes) continue;
    const std::string label = inputs.label(static_cast<std::uint32_t>(d));
    taken += taken.empty() ? label + " is taken to have " : ", " + label + " ";
    taken += format_size(row.capacity);
  }
  if (taken.empty()) return;
  plan.notes.push_back("--max-memory limits weights alone: " + taken +
                       ", KV cache and workspace included; --machine says what memory there is");
}

// Bytes of weights that are off the GPUs though the request forbids it; 0 if it does not.
std::uint64_t offloaded(const PlanInputs& inputs, const Ledger& ledger) {
  std::uint64_t bytes = 0;
  for (const DeviceLedger& row : ledger.devices) {
    if (!is_gpu(row.kind)) bytes += row.weights;
  }
  return inputs.request.never_offload ? bytes : 0;
}

// The device map in which host RAM is one device, as every other tool sees it.
DeviceMap map_for_others(const PlanInputs& inputs,
                         const std::vector<std::uint32_t>& tensor_device) {
  const std::uint32_t host = inputs.device("cpu");
  std::vector<std::uint32_t> folded = tensor_device;
  for (std::uint32_t& device : folded) {
    if (inputs.machine.devices[device].kind == DeviceKind::kCpu) device = host;
  }
  return collapse_device_map(inputs.tree, folded, device_names(inputs.machine));
}

// Sets what a plan says of the NUMA nodes that host RAM is divided into; nothing where it is whole.
// Memory of a node is asked for, and a mapping stands wherever the page cache has the file.
void settle_nodes(const PlanInputs& inputs, Plan& plan) {
  const std::vector<bool> all(inputs.machine.devices.size(), true);
  if (host_nodes(inputs.machine, all).size() < 2) return;
  std::vector<std::string> names = device_names(inputs.machine);
  std::replace(names.begin(), names.end(), std::string("cpu"), std::string("cpu:0"));
  plan.node_map = collapse_device_map(inputs.tree, plan.tensor_device, names);
  for (DeviceMapEntry& entry : plan.device_map) {
    if (names_host(entry.device)) entry.device = "cpu";
  }
  const bool held = std::any_of(
      plan.tensor_device.begin(), plan.tensor_device.end(),
      [&](std::uint32_t d) { return inputs.machine.devices[d].kind == DeviceKind::kCpu; });
  if (!held || plan.cpu_memory != CpuMemory::kMmap) return;
  plan.cpu_memory = CpuMemory::kPrivate;
  plan.notes.push_back(
      "weights in host RAM are in private memory of their NUMA node: mapped ones would stand on "
      "whichever node has the file in its page cache");
}

// make_plan(). `suggest`: whether a plan that does not fit looks for its cause and for changes that
// would make it fit. These changes are planned by this function again, without suggestions.
Plan make(const ModelTree& tree, const Machine& machine, const Request& request, bool suggest) {
  if (tree.modules.empty() || tree.tensors.empty()) {
    throw Error((tree.name.empty() ? "model" : tree.name) + ": there is nothing to place");
  }
  if (machine.devices.empty() && !request.max_memory) {
    throw Error("machine " + machine.source + ": there is no device to place anything on");
  }
  const bool own = is_own(request);
  // For large models Accelerate's placement is worked out in a thread of its own, beside
  // PlanInputs. The future joins that thread, also when an exception is thrown.
  const bool large = tree.tensors.size() > 4096 && placer_of(request) == Placer::kAccelerate;
  std::future<AccelerateResult> accelerate =
      std::async(large ? std::launch::async | std::launch::deferred : std::launch::deferred,
                 [&] { return place_as_accelerate(tree, machine, request); });
  auto chosen = std::make_unique<PlanInputs>(tree, machine, request);
  Decision decision = request.device_map ? decide_map(*chosen)
                      : own              ? decide_own(tree, machine, request, chosen)
                                         : decide_accelerate(*chosen, accelerate.get());
  if (!own) {
    settle_runner(tree, machine, request, decision.tensor_device, chosen);
  }
  const PlanInputs& inputs = *chosen;
  Plan plan;
  plan.policy = request.device_map ? Policy::kDeviceMap : request.policy;
  plan.machine = inputs.machine.source;
  plan.workload = inputs.workload;
  plan.cpu_memory = request.cpu_memory;
  plan.staging = request.staging;
  plan.tensor_device = std::move(decision.tensor_device);
  plan.notes = std::move(decision.notes);
  plan.guessed = !tree.guesses.empty();
  note_workload(inputs, request.workload, plan);
  Ledger ledger = make_ledger(tree, inputs.machine, inputs.chain, inputs.spaces, inputs.time,
                              plan.tensor_device);
  const bool all = std::find(plan.tensor_device.begin(), plan.tensor_device.end(), kNone) ==
                   plan.tensor_device.end();
  Streaming streaming;
  if (all) {
    streaming = price_plan(inputs, ledger, plan);
    if (own && decision.missing == 0) {
      (plan.guessed ? plan.estimate.guessed_gap : plan.estimate.optimality_gap) = decision.gap;
    }
    plan.device_map = decision.device_map.empty() ? map_for_others(inputs, plan.tensor_device)
                                                  : std::move(decision.device_map);
    settle_nodes(inputs, plan);
  }
  const std::uint32_t disk = inputs.device("disk");
  if (disk != kNone && stands_on_disk(inputs, plan.tensor_device)) {
    plan.disk_runner = inputs.time.runs_on(disk);
    plan.notes.push_back("what stands on the disk is read for each pass and computed by " +
                         inputs.label(plan.disk_runner));
  }
  const std::uint64_t load_short = settle_load(inputs, ledger, plan);
  if (own) note_budgets(inputs, ledger, plan);
  Reasons reasons;
  if (own && all) {
    reasons = auto_reasons(inputs, plan.tensor_device, ledger, streaming, decision.packed);
  }
  plan.placement = list_placements(inputs, plan.tensor_device, decision.by_device, reasons);
  const std::uint64_t missing =
      std::max({decision.missing, ledger.short_bytes, load_short, offloaded(inputs, ledger)});
  if (missing > 0) {
    plan.shortfall = Shortfall{missing, {}, {}};
    if (suggest) {
      plan.shortfall->cause =
          load_short == missing ? load_cause(inputs, plan.load_peak) : find_cause(inputs);
      plan.shortfall->suggestions = find_suggestions(inputs, try_plan);
    }
  }
  plan.devices = std::move(ledger.devices);
  return plan;
}

}  // namespace

Plan make_plan(const ModelTree& tree, const Machine& machine, const Request& request) {
  return make(tree, machine, request, request.suggest);
}

Plan try_plan(const ModelTree& tree, const Machine& machine, const Request& request) {
  return make(tree, machine, request, false);
}

}  // namespace berth

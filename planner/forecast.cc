// forecast(): what a run of a plan is expected to take, unit by unit.
#include <utility>

#include "berth/planner.h"
#include "planner/cost/inputs.h"
#include "planner/cost/pricing.h"

namespace berth {
namespace {

// The devices of the plan, in its order, as `machine` has them; none if it lacks one.
std::optional<Machine> devices_of(const Plan& plan, const Machine& machine) {
  Machine out = machine;
  out.devices.clear();
  for (const DeviceLedger& ledger : plan.devices) {
    const Device* const device = machine.find(ledger.name);
    if (device == nullptr) return std::nullopt;
    out.devices.push_back(*device);
  }
  std::erase_if(out.links, [&](const Link& link) {
    return out.find(link.from) == nullptr || out.find(link.to) == nullptr;
  });
  return out;
}

}  // namespace

std::optional<Forecast> forecast(const ModelTree& tree, const Machine& machine, const Plan& plan,
                                 const Workload& workload) {
  const std::optional<Machine> devices = devices_of(plan, machine);
  if (!devices || plan.tensor_device.size() != tree.tensors.size()) return std::nullopt;
  Request request;
  request.workload = workload;
  if (plan.disk_runner != kNone) {
    request.disk_runner =
        is_gpu(plan.devices[plan.disk_runner].kind) ? DiskRunner::kGpu : DiskRunner::kHost;
  }
  const PlanInputs inputs(tree, *devices, request);
  if (!inputs.chain.known) return std::nullopt;
  const Pricing pricing(inputs.machine, inputs.chain, inputs.time, inputs.usable);
  const PlacedUnits placed = placed_units(inputs.chain, plan.tensor_device);
  Forecast out;
  out.estimate = pricing.estimate(placed, {});
  for (std::size_t u = 0; u < inputs.chain.units.size(); ++u) {
    const Unit& unit = inputs.chain.units[u];
    for (std::uint32_t i = placed.begin[u]; i < placed.begin[u + 1]; ++i) {
      const Piece& piece = placed.pieces[i];
      const Seconds seconds = inputs.time.piece(unit, piece.device, piece.share);
      out.units.push_back(
          {unit.module, inputs.time.runs_on(piece.device), seconds.prefill, seconds.token});
      const double bytes = inputs.time.token_bytes(unit, piece.share);
      out.bytes_per_step += bytes;
      const double rate = inputs.machine.devices[piece.device].memory_bandwidth;
      if (rate > 0) out.limit_seconds_per_step += bytes / rate;
    }
  }
  return out;
}

}  // namespace berth

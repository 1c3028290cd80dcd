#include "planner/cost/time.h"

#include <algorithm>

#include "planner/cost/routes.h"

namespace berth {
namespace {

// `amount` at `rate`, in seconds; 0 for an unknown rate.
double over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

}  // namespace

TimeModel::TimeModel(const Machine& machine, const Chain& chain, const Workload& workload,
                     const std::vector<bool>& usable, DiskRunner disk_runner)
    : machine_(machine),
      workload_(workload),
      new_tokens_(static_cast<double>(workload.new_tokens)),
      flop_scale_(chain.activation_bytes > 2 ? 0.5 : 1),
      disk_runner_(disk_runner) {
  const auto devices = static_cast<std::uint32_t>(machine.devices.size());
  for (std::uint32_t d = 0; d < devices; ++d) {
    const Device& device = machine.devices[d];
    if (device.kind == DeviceKind::kCpu && host_ == kNone && usable[d]) host_ = d;
    const bool larger = disk_gpu_ == kNone || device.capacity > machine.devices[disk_gpu_].capacity;
    if (is_gpu(device.kind) && usable[d] && larger) disk_gpu_ = d;
    const auto measured = device.matvec.find(chain.weight_dtype);
    matvec_.push_back(measured == device.matvec.end() ? device.memory_bandwidth : measured->second);
  }
  from_host_.assign(devices, 0);
  for (std::uint32_t d = 0; d < devices && host_ != kNone; ++d) {
    const Device& device = machine.devices[d];
    if (!is_gpu(device.kind)) continue;
    const Link* link = machine.find_link(machine.devices[host_].name, device.name);
    if (link == nullptr || link->bandwidth <= 0) continue;
    from_host_[d] = link->bandwidth;
    streamers_.push_back(d);
  }
  std::stable_sort(streamers_.begin(), streamers_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(from_host_[a], machine.devices[a].memory_bandwidth) >
           std::pair(from_host_[b], machine.devices[b].memory_bandwidth);
  });
  const double token = static_cast<double>(workload.batch) * chain.hidden *
                       static_cast<double>(chain.activation_bytes);
  token_hop_ = route_seconds(machine, token);
  prefill_hop_ = route_seconds(machine, token * static_cast<double>(workload.prompt_tokens));
}

Seconds TimeModel::hop(std::uint32_t from, std::uint32_t to) const {
  const std::size_t at = from * machine_.devices.size() + to;
  return {prefill_hop_[at], token_hop_[at]};
}

std::uint32_t TimeModel::runs_on(std::uint32_t device) const {
  if (machine_.devices[device].kind != DeviceKind::kDisk) return device;
  if (disk_runner_ == DiskRunner::kGpu && disk_gpu_ != kNone) return disk_gpu_;
  if (host_ != kNone) return host_;
  return disk_gpu_ != kNone ? disk_gpu_ : device;
}

TimeModel::Work TimeModel::work(const Unit& unit, const Share& share) const {
  const auto batch = static_cast<double>(workload_.batch);
  const auto prompt = static_cast<double>(workload_.prompt_tokens);
  const double dense = static_cast<double>(unit.dense_bytes) * share.dense;
  const double routed = static_cast<double>(unit.expert_bytes) * share.experts;
  const double row = static_cast<double>(unit.row_bytes) * share.dense * batch;
  Work out;
  out.weights = {dense + routed * unit.routed_prompt + row * prompt,
                 dense + routed * unit.routed_token + row};
  const double active =
      2 * batch *
      (unit.elements * share.dense + unit.expert_elements * share.experts * unit.experts_fraction);
  out.flops = {active * (unit.head ? 1 : prompt), active};
  if (unit.prompt_only) {
    out.weights.token = 0;
    out.flops.token = 0;
  }
  if (!share.attends) return out;
  const std::uint64_t seen = workload_.prompt_tokens + workload_.new_tokens / 2;
  out.kv =
      static_cast<double>(unit.kv_position) * static_cast<double>(std::min(seen, unit.kv_window)) +
      static_cast<double>(unit.kv_constant);
  const double width = 4 * batch * unit.attention_width;  // FLOPs a position
  const auto window = static_cast<double>(unit.kv_window);
  out.flops.prefill += prompt * width * std::min(prompt / 2, window);
  out.flops.token += width * std::min(prompt + new_tokens_ / 2, window);
  return out;
}

Seconds TimeModel::piece(const Unit& unit, std::uint32_t device, const Share& share) const {
  const Work work = this->work(unit, share);
  const std::uint32_t runner = runs_on(device);
  Seconds out;
  if (machine_.devices[runner].kind != DeviceKind::kDisk) {
    const Device& at = machine_.devices[runner];
    const double rate = at.flops * flop_scale_;
    out.prefill =
        std::max(over(work.weights.prefill, at.memory_bandwidth), over(work.flops.prefill, rate));
    out.token =
        std::max(over(work.weights.token, matvec_[runner]) + over(work.kv, at.memory_bandwidth),
                 over(work.flops.token, rate));
  }
  if (machine_.devices[device].kind == DeviceKind::kDisk) {
    const double reads = machine_.devices[device].memory_bandwidth;
    out.prefill += over(work.weights.prefill, reads);
    out.token += over(work.weights.token, reads);
  }
  return out;
}

std::pair<Limit, Limit> TimeModel::limits(const Unit& unit, std::uint32_t device,
                                          const Share& share) const {
  if (machine_.devices[device].kind == DeviceKind::kDisk) return {Limit::kDisk, Limit::kDisk};
  const Work work = this->work(unit, share);
  const Device& at = machine_.devices[device];
  const double rate = at.flops * flop_scale_;
  const auto limit = [](double bytes, double flops) {
    return flops > bytes ? Limit::kFlops : Limit::kMemory;
  };
  return {limit(over(work.weights.prefill, at.memory_bandwidth), over(work.flops.prefill, rate)),
          limit(over(work.weights.token, matvec_[device]) + over(work.kv, at.memory_bandwidth),
                over(work.flops.token, rate))};
}

Seconds TimeModel::transfer(const Unit& unit, std::uint32_t gpu, const Share& share) const {
  const Work work = this->work(unit, share);
  return {over(work.weights.prefill, from_host_[gpu]),
          over(work.weights.token + work.kv, from_host_[gpu])};
}

}  // namespace berth

#include "planner/placement/time_model.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "planner/placement/routes.h"

namespace berth {
namespace {

double bandwidth_between(const Machine& machine, std::uint32_t from, std::uint32_t to) {
  for (const Link& link : machine.links) {
    if (link.from == machine.devices[from].name && link.to == machine.devices[to].name) {
      return link.bandwidth;
    }
  }
  return 0;
}

double over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

}  // namespace

TimeModel::TimeModel(const Machine& machine, const Chain& chain, const Workload& workload)
    : machine_(machine),
      workload_(workload),
      new_tokens_(static_cast<double>(workload.new_tokens)),
      flop_scale_(chain.activation_bytes > 2 ? 0.5 : 1) {
  for (std::uint32_t d = 0; d < machine.devices.size(); ++d) {
    if (machine.devices[d].kind == DeviceKind::kCpu && host_ == kNone) host_ = d;
    if (machine.devices[d].kind == DeviceKind::kCuda && first_gpu_ == kNone) first_gpu_ = d;
  }
  if (host_ != kNone) {
    double best = 0;
    for (std::uint32_t d = 0; d < machine.devices.size(); ++d) {
      if (machine.devices[d].kind != DeviceKind::kCuda) continue;
      const double rate = bandwidth_between(machine, host_, d);
      if (rate > best) {
        best = rate;
        streamer_ = d;
      }
    }
  }
  double width = 0;
  for (const Unit& unit : chain.units) width = std::max(width, unit.attention_width);
  const double token =
      static_cast<double>(workload.batch) * width * static_cast<double>(chain.activation_bytes);
  token_hop_ = route_seconds(machine, token);
  prefill_hop_ = route_seconds(machine, token * static_cast<double>(workload.prompt_tokens));
}

Seconds TimeModel::hop(std::uint32_t from, std::uint32_t to) const {
  const std::size_t at = from * machine_.devices.size() + to;
  return {prefill_hop_[at], token_hop_[at]};
}

std::uint32_t TimeModel::runs_on(std::uint32_t device) const {
  if (machine_.devices[device].kind != DeviceKind::kDisk) return device;
  if (host_ != kNone) return host_;
  return first_gpu_ != kNone ? first_gpu_ : device;
}

double TimeModel::kv_read(const Unit& unit) const {
  const std::uint64_t positions =
      std::min(workload_.prompt_tokens + workload_.new_tokens / 2, unit.kv_window);
  return static_cast<double>(unit.kv_position) * static_cast<double>(positions);
}

Seconds TimeModel::touched(const Unit& unit, double dense, double experts) const {
  const auto batch = static_cast<double>(workload_.batch);
  const double tokens = batch * static_cast<double>(workload_.prompt_tokens);
  const double unused = 1 - unit.experts_fraction;
  const double fixed = static_cast<double>(unit.dense_bytes) * dense;
  const double routed = static_cast<double>(unit.expert_bytes) * experts;
  const double row = static_cast<double>(unit.row_bytes) * dense;
  return {fixed + routed * (1 - std::pow(unused, tokens)) + row * tokens,
          fixed + routed * (1 - std::pow(unused, batch)) + row * batch};
}

Seconds TimeModel::compute(const Unit& unit, std::uint32_t device, double dense, double experts,
                           bool attends) const {
  const Device& at = machine_.devices[device];
  const Seconds bytes = touched(unit, dense, experts);
  const auto batch = static_cast<double>(workload_.batch);
  const auto prompt = static_cast<double>(workload_.prompt_tokens);
  const double weights =
      2 * batch * (unit.elements * dense + unit.expert_elements * experts * unit.experts_fraction);
  const double width = attends ? 4 * batch * unit.attention_width : 0;  // FLOPs a position
  const auto window = static_cast<double>(unit.kv_window);
  const double seen = std::min(prompt + new_tokens_ / 2, window);
  const double rate = at.flops * flop_scale_;
  const double kv = attends ? kv_read(unit) : 0;
  return {
      std::max(over(bytes.prefill, at.memory_bandwidth),
               over(prompt * (weights + width * std::min(prompt / 2, window)), rate)),
      std::max(over(bytes.token + kv, at.memory_bandwidth), over(weights + width * seen, rate))};
}

Seconds TimeModel::unit(const Unit& unit, std::uint32_t device, std::uint32_t stream, double dense,
                        double experts, bool attends) const {
  const Device& at = machine_.devices[device];
  if (at.kind == DeviceKind::kDisk) {
    const Seconds bytes = touched(unit, dense, experts);
    const std::uint32_t runner = runs_on(device);
    Seconds out = runner == device ? Seconds{} : compute(unit, runner, dense, experts, attends);
    out.prefill += over(bytes.prefill, at.memory_bandwidth);
    out.token += over(bytes.token, at.memory_bandwidth);
    return out;
  }
  Seconds out = compute(unit, device, dense, experts, attends);
  if (at.kind != DeviceKind::kCpu || stream == kNone) return out;
  const double link = bandwidth_between(machine_, device, stream);
  if (link <= 0) return out;
  const Seconds bytes = touched(unit, dense, experts);
  const Seconds there = compute(unit, stream, dense, experts, attends);
  const double kv = attends ? kv_read(unit) : 0;
  out.prefill = std::min(out.prefill, std::max(bytes.prefill / link, there.prefill) + kv / link);
  out.token = std::min(out.token, std::max((bytes.token + kv) / link, there.token));
  return out;
}

Estimate estimate_placement(const ModelTree& tree, const Chain& chain, const TimeModel& time,
                            const std::vector<std::uint32_t>& tensor_device, std::uint32_t stream) {
  Estimate estimate;
  if (!chain.known) return estimate;
  Seconds total;
  const auto add = [&](const Seconds& seconds) {
    total.prefill += seconds.prefill;
    total.token += seconds.token;
  };
  std::uint32_t before = kNone;
  for (const Unit& unit : chain.units) {
    if (unit.tensors.empty()) continue;
    std::map<std::uint32_t, std::pair<double, double>> shares;  // dense, experts: bytes
    double dense = 0;
    double experts = 0;
    const std::uint32_t home = tensor_device[unit.tensors[0]];
    for (TensorId t : unit.tensors) {
      bool routed = false;
      for (ModuleId m = tree.tensors[t].module; m != kNone && !routed; m = tree.modules[m].parent) {
        routed = tree.modules[m].expert;
      }
      const auto bytes = static_cast<double>(tree.tensors[t].bytes());
      auto& share = shares[tensor_device[t]];
      (routed ? share.second : share.first) += bytes;
      (routed ? experts : dense) += bytes;
    }
    for (const auto& [device, share] : shares) {
      add(time.unit(unit, device, stream, dense > 0 ? share.first / dense : 1,
                    experts > 0 ? share.second / experts : 1, device == home));
      if (device == home) continue;
      add(time.hop(home, device));
      add(time.hop(device, home));
    }
    if (before != kNone) add(time.hop(before, home));
    before = home;
  }
  estimate.prefill_seconds = total.prefill;
  estimate.seconds_per_token = total.token;
  estimate.score_seconds = time.score(total);
  return estimate;
}

}  // namespace berth

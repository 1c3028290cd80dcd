#include "planner/cost/time.h"

#include <algorithm>

#include "planner/cost/product_time.h"
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
      disk_runner_(disk_runner),
      formats_(chain.formats.size()),
      kv_element_(chain.kv_element) {
  const auto devices = static_cast<std::uint32_t>(machine.devices.size());
  for (std::uint32_t d = 0; d < devices; ++d) {
    const Device& device = machine.devices[d];
    if (device.kind == DeviceKind::kCpu && host_ == kNone && usable[d]) host_ = d;
    const bool larger = disk_gpu_ == kNone || device.capacity > machine.devices[disk_gpu_].capacity;
    if (is_gpu(device.kind) && usable[d] && larger) disk_gpu_ = d;
    const auto measured = device.matvec.find(chain.weight_dtype);
    const auto find = [](const KernelRates::ByFormat& figures, const std::string& format) {
      const auto found = figures.find(format);
      return found == figures.end() ? nullptr : &found->second;
    };
    for (const WeightFormat& format : chain.formats) {
      const KernelRates& kernels = device.kernels;
      const auto* const wide = format.wide ? find(kernels.wide, format.name) : nullptr;
      formats_on_.push_back({wide != nullptr ? wide : find(kernels.products, format.name),
                             find(kernels.starts, format.name)});
    }
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
  out.attention = {prompt * width * std::min(prompt / 2, window),
                   width * std::min(prompt + new_tokens_ / 2, window)};
  out.flops.prefill += out.attention.prefill;
  out.flops.token += out.attention.token;
  return out;
}

Seconds TimeModel::roofline(const Work& work, std::uint32_t device) const {
  const Device& at = machine_.devices[device];
  const double rate = at.flops * flop_scale_;
  return {std::max(over(work.weights.prefill, at.memory_bandwidth), over(work.flops.prefill, rate)),
          std::max(over(work.weights.token, matvec_[device]) + over(work.kv, at.memory_bandwidth),
                   over(work.flops.token, rate))};
}

Seconds TimeModel::by_kernels(const Unit& unit, const Share& share, const Work& work,
                              std::uint32_t device) const {
  const auto batch = static_cast<double>(workload_.batch);
  const double rows = batch * static_cast<double>(workload_.prompt_tokens);
  const Device& at = machine_.devices[device];
  Seconds out;
  Seconds measured;  // not seconds: bytes of weights in formats whose rates are known
  // Positions of an expert that is read at all.
  const auto of_expert = [&](double positions, double routed) {
    return std::max(1.0, positions * unit.experts_fraction / std::max(routed, 1e-9));
  };
  const double prompt_positions = of_expert(rows, unit.routed_prompt);
  const double token_positions = of_expert(batch, unit.routed_token);
  const auto all_experts = static_cast<double>(unit.expert_count) * share.experts;
  for (const FormatBytes& format : unit.formats) {
    const FormatOn& on = formats_on_[device * formats_ + format.format];
    if (on.rates == nullptr) continue;
    const double dense = static_cast<double>(format.dense) * share.dense;
    const double experts = static_cast<double>(format.experts) * share.experts;
    measured.prefill += dense + experts * unit.routed_prompt;
    measured.token += dense + experts * unit.routed_token;
    const double dense_rows = unit.head ? batch : rows;
    out.prefill += dense * product_seconds(*on.rates, dense_rows);
    out.token += dense * product_seconds(*on.rates, batch);
    if (experts > 0) {
      out.prefill += experts * unit.routed_prompt * product_seconds(*on.rates, prompt_positions);
      out.token += experts * unit.routed_token * product_seconds(*on.rates, token_positions);
    }
    if (on.starts == nullptr) continue;
    // Each format stands for its share of the products.
    const double of_dense = unit.products * share.dense * static_cast<double>(format.dense) /
                            std::max(1.0, static_cast<double>(unit.dense_bytes));
    const double of_experts = unit.expert_products * all_experts *
                              static_cast<double>(format.experts) /
                              std::max(1.0, static_cast<double>(unit.expert_bytes));
    out.prefill += of_dense * start_seconds(*on.starts, dense_rows) +
                   of_experts * unit.routed_prompt * start_seconds(*on.starts, prompt_positions);
    out.token += of_dense * start_seconds(*on.starts, batch) +
                 of_experts * unit.routed_token * start_seconds(*on.starts, token_positions);
  }
  if (unit.prompt_only) out.token = measured.token = 0;
  // What is left of the weights goes by the roofline, with its share of the FLOPs.
  const Seconds& attention = work.attention;  // not seconds: FLOPs
  const auto left = [](double all, double known) { return std::max(0.0, all - known); };
  const auto part = [](double some, double all) { return all > 0 ? some / all : 0; };
  Work rest;
  rest.weights = {left(work.weights.prefill, measured.prefill),
                  left(work.weights.token, measured.token)};
  rest.flops = {
      (work.flops.prefill - attention.prefill) * part(rest.weights.prefill, work.weights.prefill),
      (work.flops.token - attention.token) * part(rest.weights.token, work.weights.token)};
  const Seconds others = roofline(rest, device);
  out.prefill += others.prefill;
  out.token += others.token;
  const KernelRates& kernels = at.kernels;
  const double flops = at.flops * flop_scale_;
  out.prefill +=
      over(attention.prefill, kernels.prompt_attention > 0 ? kernels.prompt_attention : flops);
  // A cache of fewer bits is read, but not computed, in less time.
  const double as_16_bits = work.kv * 2 / kv_element_;
  out.token += std::max(over(as_16_bits, kernels.attention), over(work.kv, at.memory_bandwidth));
  if (unit.block && share.attends) {
    out.prefill += kernels.layer;
    out.token += unit.prompt_only ? 0 : kernels.layer;
  }
  return out;
}

Seconds TimeModel::piece(const Unit& unit, std::uint32_t device, const Share& share) const {
  const Work work = this->work(unit, share);
  const std::uint32_t runner = runs_on(device);
  Seconds out;
  if (machine_.devices[runner].kind != DeviceKind::kDisk) {
    const bool measured = !machine_.devices[runner].kernels.products.empty();
    out = measured ? by_kernels(unit, share, work, runner) : roofline(work, runner);
  }
  if (machine_.devices[device].kind == DeviceKind::kDisk) {
    const double reads = machine_.devices[device].memory_bandwidth;
    out.prefill += over(work.weights.prefill, reads);
    out.token += over(work.weights.token, reads);
  }
  return out;
}

double TimeModel::token_bytes(const Unit& unit, const Share& share) const {
  const Work work = this->work(unit, share);
  return work.weights.token + work.kv;
}

std::pair<Limit, Limit> TimeModel::limits(const Unit& unit, std::uint32_t device,
                                          const Share& share) const {
  if (machine_.devices[device].kind == DeviceKind::kDisk) return {Limit::kDisk, Limit::kDisk};
  const Work work = this->work(unit, share);
  const Device& at = machine_.devices[device];
  if (!at.kernels.products.empty()) {
    // Memory, if to read the bytes alone takes most of the time.
    const Seconds all = by_kernels(unit, share, work, device);
    const auto limit = [&](double bytes, double seconds) {
      return 2 * over(bytes, at.memory_bandwidth) >= seconds ? Limit::kMemory : Limit::kFlops;
    };
    return {limit(work.weights.prefill, all.prefill),
            limit(work.weights.token + work.kv, all.token)};
  }
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

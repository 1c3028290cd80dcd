#include "planner/search/candidate.h"

#include <algorithm>

namespace berth {
namespace {

double share_of(std::uint64_t bytes, std::uint64_t all) {
  return all == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(all);
}

// a - b, or 0 if b is more.
std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

Judge::Judge(const PlanInputs& inputs)
    : inputs_(inputs),
      pricing_(inputs.machine, inputs.chain, inputs.time, inputs.usable),
      spaces_(inputs.spaces),
      freedom_(inputs.chain.units.size()),
      loose_(inputs.machine.devices.size(), 0) {
  for (std::uint32_t u = 0; u < freedom_.size(); ++u) loosen(u);
}

void Judge::stretch(std::uint32_t device, std::uint64_t bytes) {
  const Space& space = inputs_.spaces[device];
  spaces_[device].bytes = space.bytes + bytes;
  spaces_[device].weight_bytes = space.weight_bytes + bytes;
}

// Fills freedom_ of a unit: sorts its tensors into the core, the experts that may stand aside, and
// the loose ones that overrides take away.
void Judge::loosen(std::uint32_t u) {
  const Unit& unit = inputs_.chain.units[u];
  Freedom& out = freedom_[u];
  out.core = unit.weights - unit.experts;
  out.experts = unit.experts;
  out.computed = unit.computed;
  out.core_share = {1, unit.experts > 0 ? 0.0 : 1.0, true};
  out.experts_share = {0, 1, false};
  if (inputs_.request.overrides.empty()) return;
  const auto pinned = [&](TensorId t) { return inputs_.pinned[t] != kNone; };
  if (unit.tensors.empty() || std::none_of(unit.tensors.begin(), unit.tensors.end(), pinned))
    return;
  if (std::all_of(unit.tensors.begin(), unit.tensors.end(), pinned)) {
    out.fixed = inputs_.pinned[unit.anchor];
  }
  std::uint64_t all_dense = 0;
  std::uint64_t all_experts = 0;
  std::uint64_t loose_dense = 0;
  std::uint64_t loose_experts = 0;
  bool experts_pinned = false;
  for (TensorId t : unit.tensors) {
    const ModelTensor& tensor = inputs_.tree.tensors[t];
    const bool expert = unit.expert_bytes > 0 && inputs_.chain.expert[t] != 0;
    (expert ? all_experts : all_dense) += tensor.bytes();
    const std::uint32_t device = inputs_.pinned[t];
    if (device == kNone) continue;
    experts_pinned = experts_pinned || expert;
    if (device == out.fixed) continue;
    auto loose = std::find_if(out.loose.begin(), out.loose.end(),
                              [&](const Freedom::Loose& l) { return l.device == device; });
    if (loose == out.loose.end()) {
      loose = out.loose.insert(out.loose.end(), {device, {0, 0, false}, 0, 0});
    }
    (expert ? loose->share.experts : loose->share.dense) += static_cast<double>(tensor.bytes());
    (expert ? loose_experts : loose_dense) += tensor.bytes();
    if (!tensor.persistent) {
      loose->computed += tensor.bytes();
    } else if (tensor.tied_to == kNone) {  // tied storage is counted with its first member
      loose->weights += tensor.bytes();
    }
  }
  for (Freedom::Loose& loose : out.loose) {
    loose.share.dense /= std::max(1.0, static_cast<double>(all_dense));
    loose.share.experts /= std::max(1.0, static_cast<double>(all_experts));
    loose_[loose.device] += loose.weights + loose.computed;
    out.computed = less(out.computed, loose.computed);
  }
  if (experts_pinned) {  // then the experts that are not pinned go with the core
    out.core += out.experts;
    out.experts = 0;
    out.core_share.experts = 1;
  }
  for (const Freedom::Loose& loose : out.loose) out.core = less(out.core, loose.weights);
  out.core_share.dense -= share_of(loose_dense, all_dense);
  if (out.experts == 0) out.core_share.experts -= share_of(loose_experts, all_experts);
}

PlacedUnits Judge::placed(const Candidate& candidate) const {
  PlacedUnits placed;
  placed.begin.reserve(freedom_.size() + 1);
  placed.pieces.reserve(freedom_.size() + 8);
  for (std::uint32_t u = 0; u < freedom_.size(); ++u) {
    const Freedom& free = freedom_[u];
    if (!inputs_.chain.units[u].tensors.empty()) {
      Piece home{candidate.home[u], free.core_share};
      const bool together = candidate.experts[u] == candidate.home[u];
      if (together && free.experts > 0) home.share.experts += free.experts_share.experts;
      const std::size_t at = placed.pieces.size();
      placed.pieces.push_back(home);
      if (!together && free.experts > 0) {
        placed.pieces.push_back({candidate.experts[u], free.experts_share});
      }
      for (const Freedom::Loose& loose : free.loose) {
        if (loose.device == candidate.home[u]) {
          placed.pieces[at].share.dense += loose.share.dense;
          placed.pieces[at].share.experts += loose.share.experts;
        } else {
          placed.pieces.push_back({loose.device, loose.share});
        }
      }
    }
    placed.end_unit();
  }
  return placed;
}

Seconds Judge::seconds(std::uint32_t u, std::uint32_t home, std::uint32_t experts) const {
  const Unit& unit = inputs_.chain.units[u];
  const Freedom& free = freedom_[u];
  Seconds sum;
  if (unit.tensors.empty()) return sum;
  const auto add = [&](const Seconds& seconds) {
    sum.prefill += seconds.prefill;
    sum.token += seconds.token;
  };
  const auto aside = [&](std::uint32_t device, const Share& share) {
    add(inputs_.time.hop(home, device));
    add(inputs_.time.piece(unit, device, share));
    add(inputs_.time.hop(device, home));
  };
  Share core = free.core_share;
  if (free.experts > 0 && experts == home) core.experts += free.experts_share.experts;
  for (const Freedom::Loose& loose : free.loose) {
    if (loose.device == home) {
      core.dense += loose.share.dense;
      core.experts += loose.share.experts;
    } else {
      aside(loose.device, loose.share);
    }
  }
  add(inputs_.time.piece(unit, home, core));
  if (free.experts > 0 && experts != home) aside(experts, free.experts_share);
  return sum;
}

// Tied storage is counted in the weights of the first unit of its group. Each further unit adds a
// copy if no earlier unit of the group is on its device.
void Judge::add_tied(const Candidate& candidate, Usage& usage) const {
  const auto add = [&](const std::vector<std::uint32_t>& group) {
    for (std::size_t i = 1; i < group.size(); ++i) {
      const std::uint32_t device = candidate.home[group[i]];
      if (device == kNone) continue;
      const bool there = std::any_of(group.begin(), group.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](std::uint32_t u) { return candidate.home[u] == device; });
      if (!there) usage.weights[device] += inputs_.chain.units[group[i]].tied;
    }
  };
  for (const auto& group : inputs_.chain.tied) add(group);
  for (const auto& group : inputs_.chain.joined) add(group);
}

Judge::Usage Judge::usage(const Candidate& candidate) const {
  const std::size_t devices = inputs_.machine.devices.size();
  Usage out;
  out.weights.assign(devices, 0);
  out.activation.assign(devices, 0);
  std::vector<std::uint64_t> rest(devices, 0);  // KV cache, computed buffers, logits
  std::vector<std::uint64_t>& from_disk = out.buffer;
  from_disk.assign(devices, 0);
  for (std::uint32_t u = 0; u < freedom_.size(); ++u) {
    const Unit& unit = inputs_.chain.units[u];
    if (unit.tensors.empty()) continue;
    const Freedom& free = freedom_[u];
    const bool placed = candidate.home[u] != kNone;
    std::uint64_t read_dense = 0;  // from the disk
    std::uint64_t read_experts = 0;
    const auto put = [&](std::uint32_t device, std::uint64_t weights, std::uint64_t experts,
                         std::uint64_t computed) {
      const std::uint32_t runner = inputs_.time.runs_on(device);
      out.weights[device] += weights + experts;
      rest[device] += computed;
      out.activation[runner] = std::max(out.activation[runner], unit.activation);
      if (runner == device) return;
      read_dense += weights + unit.tied;
      read_experts += experts;
      from_disk[runner] = std::max(from_disk[runner], buffer_bytes(unit, read_dense, read_experts));
    };
    if (placed) put(candidate.home[u], free.core, 0, free.computed);
    if (placed && free.experts > 0) put(candidate.experts[u], 0, free.experts, 0);
    for (const Freedom::Loose& loose : free.loose) {
      put(loose.device, loose.weights, 0, loose.computed);
    }
    if (placed) rest[inputs_.time.runs_on(candidate.home[u])] += unit.kv_bytes + unit.logits;
  }
  add_tied(candidate, out);
  for (std::size_t d = 0; d < devices; ++d) {
    out.total.push_back(out.weights[d] + rest[d] + out.activation[d] + 2 * from_disk[d]);
  }
  return out;
}

std::uint64_t Judge::over(const Usage& usage, std::uint32_t device) const {
  const Space& space = spaces_[device];
  return std::max(less(usage.total[device], space.bytes),
                  less(usage.weights[device], space.weight_bytes));
}

bool Judge::fits(const Candidate& candidate) const {
  const Usage usage = this->usage(candidate);
  for (std::uint32_t d = 0; d < usage.total.size(); ++d) {
    if (over(usage, d) > 0) return false;
  }
  return true;
}

std::optional<Pricing::Priced> Judge::price(const Candidate& candidate) const {
  const Usage usage = this->usage(candidate);
  std::vector<std::uint64_t> spare;
  for (std::uint32_t d = 0; d < usage.total.size(); ++d) {
    if (over(usage, d) > 0) return std::nullopt;
    spare.push_back(less(spaces_[d].bytes, usage.total[d]));
  }
  return pricing_.best(placed(candidate), spare, usage.activation);
}

std::vector<std::uint32_t> Judge::tensor_device(const Candidate& candidate) const {
  std::vector<std::uint32_t> out = inputs_.pinned;
  for (std::uint32_t u = 0; u < freedom_.size(); ++u) {
    const Unit& unit = inputs_.chain.units[u];
    const bool experts_aside = candidate.experts[u] != candidate.home[u];
    for (TensorId t : unit.tensors) {
      if (out[t] != kNone) continue;
      const bool aside = experts_aside && inputs_.chain.expert[t] != 0;
      out[t] = aside ? candidate.experts[u] : candidate.home[u];
    }
  }
  return out;
}

}  // namespace berth

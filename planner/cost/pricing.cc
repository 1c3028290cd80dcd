#include "planner/cost/pricing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace berth {
namespace {

using Phase = double Seconds::*;

}  // namespace

PlacedUnits placed_units(const Chain& chain, const std::vector<std::uint32_t>& tensor_device) {
  PlacedUnits placed;
  struct Bytes {
    double dense = 0;
    double experts = 0;
  };
  std::vector<std::pair<std::uint32_t, Bytes>> held;  // by device, the home first
  for (const Unit& unit : chain.units) {
    held.clear();
    Bytes all;
    if (!unit.tensors.empty() && tensor_device[unit.anchor] != kNone) {
      held.push_back({tensor_device[unit.anchor], {}});
    }
    std::size_t at = 0;
    for (TensorId t : unit.tensors) {
      const std::uint32_t device = tensor_device[t];
      if (device == kNone) continue;
      if (at >= held.size() || held[at].first != device) {  // neighbours mostly stand together
        at = 0;
        while (at < held.size() && held[at].first != device) ++at;
        if (at == held.size()) held.push_back({device, {}});
      }
      const auto bytes = static_cast<double>(chain.bytes[t]);
      const bool routed = unit.expert_bytes > 0 && chain.expert[t] != 0;
      (routed ? held[at].second.experts : held[at].second.dense) += bytes;
      (routed ? all.experts : all.dense) += bytes;
    }
    for (std::size_t i = 0; i < held.size(); ++i) {
      const Bytes& bytes = held[i].second;
      Piece piece;
      piece.device = held[i].first;
      piece.share.dense = all.dense > 0 ? bytes.dense / all.dense : i == 0 ? 1 : 0;
      piece.share.experts = all.experts > 0 ? bytes.experts / all.experts : i == 0 ? 1 : 0;
      piece.share.attends = i == 0;
      placed.pieces.push_back(piece);
    }
    placed.end_unit();
  }
  return placed;
}

Pricing::Pricing(const Machine& machine, const Chain& chain, const TimeModel& time,
                 const std::vector<bool>& usable)
    : machine_(machine), chain_(chain), time_(time), usable_(usable) {
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    const bool like_last = u > 0 && cost_alike(chain.units[u - 1], chain.units[u]);
    kind_.push_back(like_last ? kind_.back() : u);
  }
}

bool Pricing::streams(const Unit& unit, const Piece& home, const Piece& piece,
                      const Streaming& streaming) const {
  if (!unit.block || piece.device != time_.host()) return false;
  const std::uint32_t gpu = home.device == time_.host() ? streaming.gpu : home.device;
  return gpu != kNone && is_gpu(machine_.devices[gpu].kind);
}

// One walk along the chain, for the prompt or for a token. Keeps the clock and, for every GPU that
// is streamed to, when its link and its stream buffers are free; if asked, also what the time went
// to.
class Pricing::Walk {
 public:
  Walk(const Pricing& pricing, const PlacedUnits& placed, const Streaming& streaming, Phase phase)
      : pricing_(pricing),
        placed_(placed),
        streaming_(streaming),
        phase_(phase),
        streams_(phase == &Seconds::prefill ? streaming.prompt : streaming.token),
        computed_(pricing.machine_.devices.size()),
        copied_(pricing.machine_.devices.size()) {}

  double run() {
    std::uint32_t at = kNone;
    for (std::uint32_t u = 0; u < pricing_.chain_.units.size(); ++u) {
      const std::uint32_t first = placed_.begin[u];
      const std::uint32_t last = placed_.begin[u + 1];
      if (first == last) continue;
      const Unit& unit = pricing_.chain_.units[u];
      const Piece& home = placed_.pieces[first];
      const std::uint32_t runner = runner_of(unit, home);
      if (at != kNone) hop(at, runner);
      for (std::uint32_t i = first; i < last; ++i) {
        const Piece& piece = placed_.pieces[i];
        if (streams_ && pricing_.streams(unit, home, piece, streaming_)) {
          stream(u, runner, piece);
        } else {
          hop(runner, piece.device);
          compute(u, piece);
          hop(piece.device, runner);
        }
      }
      at = runner;
    }
    return clock_;
  }

  // Seconds by device and limit, filled if `account` is set. Hops are not among them.
  std::map<std::pair<std::uint32_t, Limit>, double> spent;
  double hops = 0;  // seconds
  bool account = false;

 private:
  std::uint32_t runner_of(const Unit& unit, const Piece& home) const {
    if (streams_ && pricing_.streams(unit, home, home, streaming_)) return streaming_.gpu;
    return home.device;
  }

  void hop(std::uint32_t from, std::uint32_t to) {
    if (from == to) return;
    const double seconds = pricing_.time_.hop(from, to).*phase_;
    clock_ += seconds;
    hops += seconds;
  }

  Limit limit(const Unit& unit, std::uint32_t device, const Share& share) const {
    const auto both = pricing_.time_.limits(unit, device, share);
    return phase_ == &Seconds::prefill ? both.first : both.second;
  }

  // What the piece cost that was looked at last on a device. Most layers are alike, so that the
  // next piece often costs the same and need not be worked out.
  struct Known {
    std::uint32_t kind = kNone;
    Share share;
    double seconds = 0;
  };
  template <class Ask>
  double once(Known& known, std::uint32_t u, const Share& share, const Ask& ask) const {
    const std::uint32_t kind = pricing_.kind_[u];
    if (known.kind != kind || known.share != share) known = {kind, share, ask().*phase_};
    return known.seconds;
  }
  double run_seconds(std::uint32_t u, std::uint32_t device, const Share& share) {
    return once(computed_[device], u, share,
                [&] { return pricing_.time_.piece(pricing_.chain_.units[u], device, share); });
  }
  double copy_seconds(std::uint32_t u, std::uint32_t gpu, const Share& share) {
    return once(copied_[gpu], u, share,
                [&] { return pricing_.time_.transfer(pricing_.chain_.units[u], gpu, share); });
  }

  void compute(std::uint32_t u, const Piece& piece) {
    const double seconds = run_seconds(u, piece.device, piece.share);
    clock_ += seconds;
    if (!account) return;
    const Unit& unit = pricing_.chain_.units[u];
    const std::uint32_t runner = pricing_.time_.runs_on(piece.device);
    spent[{runner, limit(unit, piece.device, piece.share)}] += seconds;
  }

  // The way to one GPU that pieces are streamed to.
  struct Lane {
    std::uint32_t gpu = kNone;
    double link_free = 0;  // when the link is free, in seconds since the start of the walk
    std::array<double, 2> buffer_free{0, 0};  // when each stream buffer is
    std::size_t next = 0;                     // the buffer that the next piece goes through
  };

  Lane& lane(std::uint32_t gpu) {
    for (Lane& known : lanes_) {
      if (known.gpu == gpu) return known;
    }
    lanes_.emplace_back().gpu = gpu;
    return lanes_.back();
  }

  void stream(std::uint32_t u, std::uint32_t gpu, const Piece& piece) {
    const Unit& unit = pricing_.chain_.units[u];
    const double copy = copy_seconds(u, gpu, piece.share);
    const double run = run_seconds(u, gpu, piece.share);
    const bool routed = unit.expert_bytes > 0 && piece.share.experts > 0;
    const bool ahead = phase_ == &Seconds::prefill || !routed;
    Lane& on = lane(gpu);
    double& buffer = on.buffer_free[on.next];
    on.next ^= 1;
    const double start = std::max({on.link_free, buffer, ahead ? 0 : clock_});
    on.link_free = start + copy;
    const double waited = std::max(0.0, on.link_free - clock_);
    clock_ += waited + run;
    buffer = clock_;
    if (!account) return;
    spent[{gpu, Limit::kLink}] += waited;
    spent[{gpu, limit(unit, gpu, piece.share)}] += run;
  }

  const Pricing& pricing_;
  const PlacedUnits& placed_;
  const Streaming& streaming_;
  const Phase phase_;
  const bool streams_;
  double clock_ = 0;
  std::vector<Lane> lanes_;
  std::vector<Known> computed_, copied_;  // by device
};

Seconds Pricing::price(const PlacedUnits& placed, const Streaming& streaming) const {
  return {Walk(*this, placed, streaming, &Seconds::prefill).run(),
          Walk(*this, placed, streaming, &Seconds::token).run()};
}

StreamBuffers Pricing::buffers(const PlacedUnits& placed, const Streaming& streaming) const {
  StreamBuffers out{std::vector<std::uint64_t>(machine_.devices.size(), 0),
                    std::vector<std::uint64_t>(machine_.devices.size(), 0)};
  if (!streaming.any()) return out;
  for (std::size_t u = 0; u < chain_.units.size(); ++u) {
    const Unit& unit = chain_.units[u];
    for (std::uint32_t i = placed.begin[u]; i < placed.begin[u + 1]; ++i) {
      const Piece& home = placed.pieces[placed.begin[u]];
      const Piece& piece = placed.pieces[i];
      if (!streams(unit, home, piece, streaming)) continue;
      const std::uint32_t gpu = home.device == time_.host() ? streaming.gpu : home.device;
      const auto share = [](std::uint64_t bytes, double fraction) {
        return static_cast<std::uint64_t>(std::llround(static_cast<double>(bytes) * fraction));
      };
      out.bytes[gpu] =
          std::max(out.bytes[gpu], buffer_bytes(unit, share(unit.dense_bytes, piece.share.dense),
                                                share(unit.expert_bytes, piece.share.experts)));
      out.activation[gpu] = std::max(out.activation[gpu], unit.activation);
    }
  }
  return out;
}

Pricing::Priced Pricing::best(const PlacedUnits& placed, const std::vector<std::uint64_t>& spare,
                              const std::vector<std::uint64_t>& activation) const {
  Priced best;
  best.seconds = price(placed, {});
  best.score = time_.score(best.seconds);
  bool homes = false;  // blocks whose home is the host
  bool asides = false;
  for (std::size_t u = 0; u < chain_.units.size(); ++u) {
    if (!chain_.units[u].block) continue;
    for (std::uint32_t i = placed.begin[u]; i < placed.begin[u + 1]; ++i) {
      if (placed.pieces[i].device != time_.host()) continue;
      (i == placed.begin[u] ? homes : asides) = true;
    }
  }
  if (time_.host() == kNone || (!homes && !asides)) return best;
  std::vector<std::uint32_t> gpus;
  for (const std::uint32_t gpu : time_.streamers()) {
    if (homes && usable_[gpu]) gpus.push_back(gpu);
  }
  if (!homes) gpus = {kNone};
  for (const std::uint32_t gpu : gpus) {
    StreamBuffers buffers = this->buffers(placed, {true, false, gpu});
    bool space = true;
    for (std::size_t d = 0; d < spare.size() && space; ++d) {
      const std::uint64_t more =
          buffers.activation[d] > activation[d] ? buffers.activation[d] - activation[d] : 0;
      space = buffers.bytes[d] == 0 ||
              (buffers.bytes[d] < kUnlimited && 2 * buffers.bytes[d] + more <= spare[d]);
    }
    if (!space) continue;
    const Seconds streamed = price(placed, {true, true, gpu});
    const Seconds computed = price(placed, {});
    for (const bool token : {false, true}) {
      const Seconds seconds{streamed.prefill, token ? streamed.token : computed.token};
      const double score = time_.score(seconds);
      if (score >= best.score * (1 - 1e-12)) continue;
      best = {seconds, score, {true, token, gpu}, buffers};
    }
    const Seconds late{computed.prefill, streamed.token};
    if (time_.score(late) < best.score * (1 - 1e-12)) {
      best = {late, time_.score(late), {false, true, gpu}, buffers};
    }
  }
  return best;
}

Estimate Pricing::estimate(const PlacedUnits& placed, const Streaming& streaming) const {
  Estimate out;
  if (!chain_.known) return out;
  Walk prefill(*this, placed, streaming, &Seconds::prefill);
  Walk token(*this, placed, streaming, &Seconds::token);
  prefill.account = token.account = true;
  const Seconds seconds{prefill.run(), token.run()};
  out.prefill_seconds = seconds.prefill;
  out.seconds_per_token = seconds.token;
  out.score_seconds = time_.score(seconds);
  out.hops_prefill_seconds = prefill.hops;
  out.hops_seconds_per_token = token.hops;
  const auto words = [&](std::uint32_t device, Limit limit) -> std::string {
    switch (limit) {
      case Limit::kMemory:
        return "memory bandwidth";
      case Limit::kFlops:
        return "FLOP/s";
      case Limit::kDisk:
        return "disk reads";
      case Limit::kLink:
        return "link cpu -> gpu " + machine_.devices[device].name;
    }
    return "";
  };
  for (std::uint32_t d = 0; d < machine_.devices.size(); ++d) {
    Stage stage;
    stage.device = d;
    double most_prefill = -1;
    double most_token = -1;
    for (const Limit limit : {Limit::kMemory, Limit::kFlops, Limit::kDisk, Limit::kLink}) {
      if (const auto at = prefill.spent.find({d, limit}); at != prefill.spent.end()) {
        stage.prefill_seconds += at->second;
        if (at->second > most_prefill) stage.prefill_limit = words(d, limit);
        most_prefill = std::max(most_prefill, at->second);
      }
      if (const auto at = token.spent.find({d, limit}); at != token.spent.end()) {
        stage.seconds_per_token += at->second;
        if (at->second > most_token) stage.token_limit = words(d, limit);
        most_token = std::max(most_token, at->second);
      }
    }
    if (stage.prefill_seconds > 0 || stage.seconds_per_token > 0) out.stages.push_back(stage);
  }
  return out;
}

}  // namespace berth

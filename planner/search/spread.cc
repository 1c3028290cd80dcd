#include "planner/search/spread.h"

#include <algorithm>

namespace berth {
namespace {

// A stretch of layers that one GPU runs, some of which, or whose experts, are away in host RAM.
struct Stretch {
  std::uint32_t gpu = kNone;
  bool whole = false;  // whole layers are away; if not, only their experts
  std::vector<std::uint32_t> units;
  std::size_t away = 0;  // how many
};

// The runs of blocks that `gpu` computes while it streams. `whole`: blocks that stand on the GPU or
// that it streams whole; else blocks that stand on it and whose experts could be aside. Runs with
// nothing or everything away are left out, as there is nothing to spread.
std::vector<Stretch> find_stretches(const PlanInputs& inputs, const Judge& judge,
                                    const Candidate& candidate, std::uint32_t gpu, bool whole) {
  const std::uint32_t host = inputs.time.host();
  std::vector<Stretch> out;
  bool open = false;
  for (std::uint32_t u = 0; u < candidate.home.size(); ++u) {
    const std::uint32_t home = candidate.home[u];
    const bool aside = candidate.experts[u] != home;
    const bool free = judge.freedom(u).fixed == kNone && inputs.chain.units[u].block;
    const bool inside = whole ? free && !aside && (home == gpu || home == host)
                              : free && home == gpu && judge.freedom(u).experts > 0 &&
                                    (!aside || candidate.experts[u] == host);
    if (!inside) {
      // Layers without experts between those with them do not end a run.
      open = open && !whole && home == gpu;
      continue;
    }
    if (!open) out.push_back({gpu, whole, {}, 0});
    open = true;
    out.back().units.push_back(u);
    if (whole ? home == host : aside) ++out.back().away;
  }
  std::erase_if(out, [](const Stretch& s) { return s.away == 0 || s.away == s.units.size(); });
  return out;
}

// Which of `count` layers are away: `away` of them, in `groups` groups, with an even share of the
// rest before each group and, if `trail`, after the last one.
std::vector<bool> pattern(std::size_t count, std::size_t away, std::size_t groups, bool trail) {
  std::vector<bool> out;
  const std::size_t rest = count - away;
  const std::size_t gaps = groups + (trail ? 1 : 0);
  for (std::size_t g = 0; g < groups; ++g) {
    out.insert(out.end(), (g + 1) * rest / gaps - g * rest / gaps, false);
    out.insert(out.end(), (g + 1) * away / groups - g * away / groups, true);
  }
  out.resize(count, false);
  return out;
}

Candidate respaced(const PlanInputs& inputs, Candidate candidate, const Stretch& stretch,
                   const std::vector<bool>& away) {
  for (std::size_t i = 0; i < stretch.units.size(); ++i) {
    const std::uint32_t u = stretch.units[i];
    const std::uint32_t to = away[i] ? inputs.time.host() : stretch.gpu;
    if (stretch.whole) candidate.home[u] = to;
    candidate.experts[u] = to;
  }
  return candidate;
}

}  // namespace

std::vector<Candidate> spread(const PlanInputs& inputs, const Judge& judge,
                              const Candidate& candidate, const Streaming& streaming) {
  std::vector<Candidate> out;
  if (!streaming.any()) return out;
  std::vector<Stretch> stretches;
  const auto add = [&](std::uint32_t gpu, bool whole) {
    for (Stretch& one : find_stretches(inputs, judge, candidate, gpu, whole)) {
      stretches.push_back(std::move(one));
    }
  };
  if (streaming.gpu != kNone) add(streaming.gpu, true);
  for (std::uint32_t d = 0; d < inputs.machine.devices.size(); ++d) {
    if (inputs.is_gpu(d)) add(d, false);
  }
  // All stretches get the same spacing. They can, as they share nothing but the host.
  std::size_t most = 0;
  for (const Stretch& stretch : stretches) most = std::max(most, stretch.away);
  for (std::size_t size = 1; size <= most; size *= 2) {
    for (const bool trail : {false, true}) {
      Candidate spaced = candidate;
      for (const Stretch& stretch : stretches) {
        const std::size_t groups = std::max<std::size_t>(1, (stretch.away + size - 1) / size);
        spaced = respaced(inputs, std::move(spaced), stretch,
                          pattern(stretch.units.size(), stretch.away, groups, trail));
      }
      out.push_back(std::move(spaced));
    }
  }
  return out;
}

}  // namespace berth

// What the programs of pipeline.h work on: movable units, kinds of devices, prefix sums. Private to
// the pipeline's sources.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "planner/search/pipeline.h"

namespace berth::pipeline {

inline constexpr double kInfinity = kNever;
using Path = std::vector<std::uint32_t>;

// The units that may move, the devices grouped into kinds, and everything that the programs below
// need as prefix sums. Units 0..units-1 are the movable ones; boundary i lies before unit i.
struct Problem {
  explicit Problem(const Pipeline& given);

  const Pipeline& pipeline;
  std::size_t devices;
  std::vector<std::uint32_t> movable;  // movable unit -> unit of the pipeline
  std::vector<Path> between;           // by boundary: devices of the fixed units there
  std::vector<std::uint64_t> fixed_weights, fixed_resident, fixed_workspace;  // by device
  std::vector<double> fixed_time;                                             // by device
  double fixed_total = 0;
  bool fits_alone = true;  // the fixed units fit by themselves

  std::vector<std::vector<std::uint32_t>> kinds;  // devices of each kind, ascending
  std::vector<std::vector<double>> prefix;        // by kind: unit times before a boundary
  std::vector<std::vector<double>> through;       // by kind: detours over boundaries 1..i
  std::vector<std::vector<std::uint32_t>> first;  // by kind, by end: earliest start that fits
  bool exact_aside = true;                        // no run had more than two kinds of experts

  std::size_t count() const { return movable.size(); }
  // Going from device a to device b over boundary i; kNone is the outside of the chain.
  double cross(std::size_t i, std::uint32_t a, std::uint32_t b) const;

  // The price of the experts that stand aside of the run [i, j) on a device of `kind`; kInfinity
  // where it does not fit all the same.
  double aside(std::size_t kind, std::size_t i, std::size_t j) const {
    return aside_[kind].empty() ? 0 : aside_[kind][j * (j - 1) / 2 + i];
  }
  bool has_aside(std::size_t kind) const { return !aside_[kind].empty(); }
  // Which units of that run those experts belong to: the first ones of each sort.
  std::vector<std::uint32_t> experts_aside(std::size_t kind, std::size_t i, std::size_t j) const;

 private:
  // Parts of one sort: equal bytes and price.
  struct Sort {
    std::uint64_t bytes = 0;
    double price = 0;
    std::uint32_t count = 0;
  };
  struct Choice {
    double price = kInfinity;
    std::array<std::uint32_t, 2> take{};  // by sort: how many, where there are two at most
    std::vector<std::uint32_t> rest;      // the same where there are more
  };
  static Choice cheapest(const std::vector<Sort>& sorts, std::uint64_t bytes);
  static Choice greedy(const std::vector<Sort>& sorts, std::uint64_t bytes);
  std::uint64_t lacking(std::uint32_t device, std::uint64_t resident, std::uint64_t weights,
                        std::uint64_t workspace) const;
  void count_experts(std::vector<Sort>& sorts, std::uint32_t unit, std::uint32_t device) const;
  void fill_aside(std::uint32_t device);

  std::vector<std::vector<double>> aside_;  // by kind: [j (j - 1) / 2 + i]; empty: never needed
  bool same_kind(std::uint32_t a, std::uint32_t b) const;
  void fill_kind(std::uint32_t device);
};

// States of "how many of each kind are used", as mixed-radix numbers.
struct States {
  explicit States(const Problem& problem) {
    for (const auto& kind : problem.kinds) {
      stride.push_back(count);
      radix.push_back(kind.size() + 1);
      if (count > kMaxStates * 64 / radix.back()) {
        too_many = true;
        return;
      }
      count *= radix.back();
    }
    too_many = count > kMaxStates;
  }
  bool too_many = false;
  std::size_t used(std::size_t state, std::size_t kind) const {
    return state / stride[kind] % radix[kind];
  }
  std::size_t count = 1;
  std::vector<std::size_t> stride, radix;
};

// By state: where along the chain its devices may end, if the others are to carry the rest. Runs
// that begin further along reach at least as far, so the furthest is all that has to be followed.
struct Windows {
  Windows(const Problem& problem, const States& states);

  bool empty(std::size_t state) const { return first[state] > last[state]; }

  std::vector<std::uint32_t> first, last;  // boundaries; first > last: of no use
};

// The least latency where devices are used in the order given: for too many unlike ones to try
// every order.
std::optional<PipelinePlan> solve_in_order(const Problem& problem);

}  // namespace berth::pipeline

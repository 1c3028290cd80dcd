// What the solvers and the bound of a pipeline work on: the units that may move, kinds of equal
// devices, and prefix sums. Only the pipeline_* sources include this.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "planner/search/pipeline.h"

namespace berth::pipeline {

inline constexpr double kInfinity = kNever;
using Path = std::vector<std::uint32_t>;

// A pipeline made ready for the dynamic programs. In the members below, units are numbered among
// the movable ones alone, 0 to count() - 1; boundary i lies before unit i, and boundary count()
// after the last. A run [i, j) lies between boundaries i and j. Keeps a reference to the pipeline.
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
  // By kind and boundary: the sum of the times of all units before it, ns.
  std::vector<std::vector<double>> prefix;
  // By kind and index: the sum of the detours at the boundaries before that index, from a device of
  // the kind over the fixed units there and back, ns.
  std::vector<std::vector<double>> through;
  // By kind and boundary: the earliest start of a run that ends there and fits the device.
  std::vector<std::vector<std::uint32_t>> first;
  bool exact_aside = true;  // no run that needed it had more than two sorts of experts

  std::size_t count() const { return movable.size(); }
  // The ns of going from device a to device b over boundary i, by way of the devices of the fixed
  // units there. a is kNone at the chain's beginning, b at its end.
  double cross(std::size_t i, std::uint32_t a, std::uint32_t b) const;

  // The price, in ns, of the experts that must stand aside for the run [i, j) to fit a device of
  // `kind`: 0 if none must, kInfinity if it does not fit even so.
  double aside(std::size_t kind, std::size_t i, std::size_t j) const {
    return aside_[kind].empty() ? 0 : aside_[kind][j * (j - 1) / 2 + i];
  }
  bool has_aside(std::size_t kind) const { return !aside_[kind].empty(); }
  // The units of the pipeline whose experts these are. Of equal experts those that come first in
  // the run go aside.
  std::vector<std::uint32_t> experts_aside(std::size_t kind, std::size_t i, std::size_t j) const;

 private:
  // Experts of one sort: they have the same bytes and the same price.
  struct Sort {
    std::uint64_t bytes = 0;
    double price = 0;
    std::uint32_t count = 0;
  };
  // How many experts of each sort go aside: in `take` for up to two sorts, in `rest` for more.
  struct Choice {
    double price = kInfinity;
    std::array<std::uint32_t, 2> take{};
    std::vector<std::uint32_t> rest;
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

// A state says how many devices of each kind are used. It is a mixed-radix number with one digit
// for each kind. Devices of a kind are used in index order.
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

// By state: between which boundaries the runs on its devices may end, so that they can hold what
// comes before and the other devices can hold the rest. A run that begins further along reaches at
// least as far, so it is enough to follow the furthest one.
struct Windows {
  Windows(const Problem& problem, const States& states);

  bool empty(std::size_t state) const { return first[state] > last[state]; }

  std::vector<std::uint32_t> first, last;  // boundaries; first > last: the state is of no use
};

// The placement with the least latency among those that use devices in the order given. For when
// there are too many unlike devices to try every order.
std::optional<PipelinePlan> solve_in_order(const Problem& problem);

}  // namespace berth::pipeline

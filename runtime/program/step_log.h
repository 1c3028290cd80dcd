// When each step of a run began and ended: what a profile is made from.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace berth {

/// Seconds are counted from the first pass. For one thread.
struct StepLog {
  struct Step {
    std::string name;          // what it does, or the modules that it computes
    std::int32_t layer = -1;   // whose part it is; -1: of none
    std::uint32_t device = 0;  // where its result is: an index into Plan::devices
  };
  struct Pass {
    std::uint64_t rows = 0;  // tokens, of all sequences
    double begin = 0;
    double end = 0;
  };
  struct Event {
    std::uint32_t step = 0;  // index into `steps`
    double begin = 0;
    double end = 0;
  };
  static constexpr std::size_t kMostEvents = std::size_t{1} << 20;

  std::vector<Step> steps;
  std::vector<Pass> passes;
  std::size_t prompt_passes = 0;  // the first of them, which compute the prompts
  std::vector<Event> events;      // in order; the first kMostEvents
  std::uint64_t forgotten = 0;    // events beyond these

  double now() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
  void add(std::uint32_t step, double begin);
  /// The pass began at `begin` and ends now.
  void add_pass(std::uint64_t rows, double begin);

  using Clock = std::chrono::steady_clock;
  Clock::time_point start = Clock::now();
};

}  // namespace berth

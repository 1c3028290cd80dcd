// The steps of a layer with experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/program/routing.h"
#include "runtime/program/steps.h"

namespace berth {

/// Weights of all experts in one tensor: see Stack.
using Stacks = std::vector<std::shared_ptr<Stack>>;

struct Expert {
  Products in;   // gate and up
  Products out;  // down
  std::uint64_t hops = 0;
};

/// kChange = for each row the results of the experts that the router picks by kRouter, weighted by
/// their shares. Experts are computed and added in the order of their numbers; those that no row
/// picked are not touched.
struct ExpertsStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "experts"; }
  std::vector<Expert> experts;
  Router router;
  Activation activation = Activation::kSilu;
  std::optional<ClampedGate> clamped;  // instead: `in` makes pairs of a gate and an up
  Stacks stacks;                       // that experts are parts of, if they are
  Buffer from = Buffer::kInput;

 private:
  struct Share {
    std::size_t row;
    float weight;
  };
  void compute(Pass& pass, Expert& expert, std::span<const Share> shares, float* change) const;

  std::vector<std::vector<Share>> shares_;  // of each expert
};

/// kChange += kShared, times the sigmoid of kShareGate where that is `gated`: what all rows go
/// through beside their experts.
struct AddSharedStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "add shared"; }
  bool gated = false;
  std::size_t width = 0;
};

}  // namespace berth

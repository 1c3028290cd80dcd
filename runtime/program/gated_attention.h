// Attention whose result is gated: the projection of queries makes twice as many dimensions, and
// the second half of each head is the gate of what its attention gives (Qwen3-Next).
#pragma once

#include "runtime/program/steps.h"

namespace berth {

/// Of kWide, whose rows are a query and a gate for each head and then keys and values: kHeads has
/// queries, keys and values, and kGate has the gates.
struct SplitGateStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "split gate"; }
  std::size_t heads = 0;
  std::size_t head_dim = 0;
  std::size_t kv_width = 0;  // keys and values together
};

/// kAttended = kAttended x sigmoid(kGate).
struct GateAttendedStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "attention gate"; }
  std::size_t width = 0;
};

}  // namespace berth

#include "runtime/program/experts_step.h"

#include <algorithm>

#include "runtime/kernels/elementwise.h"

namespace berth {
namespace {

// Holds stacks as long as it lives.
class HeldStacks {
 public:
  explicit HeldStacks(const Stacks& stacks) : stacks_(stacks) {
    for (const auto& stack : stacks_) stack->hold();
  }
  ~HeldStacks() {
    for (const auto& stack : stacks_) stack->release();
  }
  HeldStacks(const HeldStacks&) = delete;
  HeldStacks& operator=(const HeldStacks&) = delete;

 private:
  const Stacks& stacks_;
};

}  // namespace

void ExpertsStep::compute(Pass& pass, Expert& expert, std::span<const Share> shares,
                          float* change) const {
  const std::size_t hidden = expert.in.columns();
  const std::size_t width = expert.out.columns();
  const float* const input = pass.of(from);
  float* const rows = pass.need(Buffer::kPicked, hidden, shares.size());
  for (std::size_t i = 0; i < shares.size(); ++i) {
    std::copy_n(input + shares[i].row * hidden, hidden, rows + i * hidden);
  }
  float* const wide = pass.need(Buffer::kWide, 2 * width, shares.size());
  expert.in.run(pass, rows, shares.size(), wide, 2 * width);
  float* const gated = pass.need(Buffer::kGated, width, shares.size());
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const float* const x = wide + i * 2 * width;
    if (clamped) {
      activate_pairs(*clamped, x, width, gated + i * width);
    } else {
      activate(activation, x, x + width, width, gated + i * width);
    }
  }
  expert.out.run(pass, gated, shares.size(), rows, hidden);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    float* const sum = change + shares[i].row * hidden;
    for (std::size_t c = 0; c < hidden; ++c) sum[c] += shares[i].weight * rows[i * hidden + c];
  }
}

void ExpertsStep::run(Pass& pass) {
  shares_.resize(experts.size());
  for (std::vector<Share>& own : shares_) {
    own.clear();
    own.reserve(1);  // so that no token allocates because it is the first to pick an expert
  }
  const float* const products = pass.of(Buffer::kRouter);
  for (std::size_t row = 0; row < pass.rows(); ++row) {
    for (const ExpertShare& one : router.pick(products + row * experts.size())) {
      shares_[one.expert].push_back({row, one.share});
    }
  }
  const std::size_t hidden = experts.front().in.columns();
  float* const change = pass.need(Buffer::kChange, hidden);
  std::fill_n(change, pass.rows() * hidden, 0.0F);
  const HeldStacks held(stacks);
  for (std::size_t e = 0; e < experts.size(); ++e) {
    if (shares_[e].empty()) continue;
    pass.hops += experts[e].hops;
    compute(pass, experts[e], shares_[e], change);
  }
}

void AddSharedStep::run(Pass& pass) {
  float* const change = pass.of(Buffer::kChange);
  const float* const shared = pass.of(Buffer::kShared);
  const float* const gate = pass.of(Buffer::kShareGate);
  for (std::size_t row = 0; row < pass.rows(); ++row) {
    const float share = gated ? sigmoid(gate[row]) : 1;
    for (std::size_t c = row * width; c < (row + 1) * width; ++c) change[c] += share * shared[c];
  }
}

}  // namespace berth

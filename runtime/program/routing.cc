#include "runtime/program/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "runtime/kernels/elementwise.h"

namespace berth {
namespace {

// Puts the numbers of the `count` largest values first: the largest one first, and of equal ones
// that with the lower number.
void order_largest(const std::vector<float>& values, std::size_t count,
                   std::vector<std::size_t>& order) {
  order.resize(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::size_t a, std::size_t b) {
                      return std::pair(-values[a], a) < std::pair(-values[b], b);
                    });
}

}  // namespace

void Router::score(const float* products) {
  const std::size_t count = routing_.experts;
  score_.resize(count);
  if (routing_.score == RouterScore::kSigmoid) {
    for (std::size_t e = 0; e < count; ++e) score_[e] = sigmoid(products[e]);
  } else {
    const float most = *std::max_element(products, products + count);
    float total = 0;
    for (std::size_t e = 0; e < count; ++e) total += score_[e] = std::exp(products[e] - most);
    for (float& one : score_) one /= total;
  }
  choice_ = score_;
  for (std::size_t e = 0; e < correction_.size(); ++e) choice_[e] += correction_[e];
}

// Experts of groups that are not among the best cannot be picked.
void Router::drop_groups() {
  const std::size_t size = routing_.experts / routing_.groups;
  const std::size_t best = std::min(routing_.best_of_group, size);
  group_.resize(routing_.groups);
  for (std::size_t g = 0; g < routing_.groups; ++g) {
    const auto begin = choice_.begin() + static_cast<std::ptrdiff_t>(g * size);
    members_.assign(begin, begin + static_cast<std::ptrdiff_t>(size));
    const auto end = members_.begin() + static_cast<std::ptrdiff_t>(best);
    std::partial_sort(members_.begin(), end, members_.end(), std::greater<>());
    group_[g] = std::accumulate(members_.begin(), end, 0.0F);
  }
  order_largest(group_, routing_.picked_groups, order_);
  for (std::size_t i = routing_.picked_groups; i < routing_.groups; ++i) {
    const auto begin = choice_.begin() + static_cast<std::ptrdiff_t>(order_[i] * size);
    std::fill_n(begin, size, -std::numeric_limits<float>::infinity());
  }
}

void Router::mix_sparsely(const float* products) {
  const auto most_distant = static_cast<float>(2 * routing_.jitter);
  choice_.assign(products, products + routing_.experts);
  shares_.clear();
  while (shares_.size() < routing_.picked) {
    const auto best = std::ranges::max_element(choice_);
    const float most = *best;
    float total = 0;
    for (std::size_t e = 0; e < choice_.size(); ++e) {
      const float distance = (most - products[e]) / std::max(std::abs(products[e]), most);
      if (!(distance > most_distant)) total += std::exp(choice_[e] - most);
    }
    shares_.push_back({static_cast<std::size_t>(best - choice_.begin()), 1 / total});
    *best = -std::numeric_limits<float>::infinity();
  }
}

std::span<const ExpertShare> Router::pick(const float* products) {
  if (routing_.score == RouterScore::kSparseMixer) {
    mix_sparsely(products);
    return shares_;
  }
  score(products);
  if (routing_.picked_groups < routing_.groups) drop_groups();
  order_largest(choice_, routing_.picked, order_);
  float total = 0;
  for (std::size_t i = 0; i < routing_.picked; ++i) total += score_[order_[i]];
  total += static_cast<float>(routing_.added);
  total = std::max(total, static_cast<float>(routing_.least_sum));
  const auto scale = static_cast<float>(routing_.scale);
  shares_.clear();
  for (std::size_t i = 0; i < routing_.picked; ++i) {
    const float own = score_[order_[i]];
    shares_.push_back({order_[i], (routing_.normalized ? own / total : own) * scale});
  }
  return shares_;
}

}  // namespace berth

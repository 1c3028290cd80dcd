// The block of a layer with experts: which of them a position goes through, and what they make of
// it.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/exec/fused_experts.h"
#include "runtime/exec/operations.h"

namespace berth {

// transformers' sparsemixer().
Operations::Picked Operations::mix_sparsely(const Placed& router) const {
  const at::Tensor scores = router.value.to(at::kFloat);
  const double lowest = -std::numeric_limits<double>::infinity();
  at::Tensor left = scores;
  std::vector<at::Tensor> experts, shares;
  for (std::size_t i = 0; i < recipe_.routing.picked; ++i) {
    const auto [most, best] = left.max(-1, /*keepdim=*/true);
    const at::Tensor distance = (most - scores) / scores.abs().maximum(most);
    const at::Tensor near = left.masked_fill(distance > 2 * recipe_.routing.jitter, lowest);
    shares.push_back(at::softmax(near, -1).gather(1, best));
    experts.push_back(best);
    left = left.scatter(1, best, lowest);
  }
  return {at::cat(experts, 1), at::cat(shares, 1), router.device};
}

// The experts that the router picks for each position, [positions, picked], and their shares, in
// float32.
Operations::Picked Operations::route(const LayerRecipe& layer, const Placed& input) {
  const Routing& routing = recipe_.routing;
  const MixtureModules& names = recipe_.family->mixture;
  const Placed router = linear(input, layer.module(names.router), false);
  if (routing.score == RouterScore::kSparseMixer) return mix_sparsely(router);
  const bool sigmoid = routing.score == RouterScore::kSigmoid;
  const at::Tensor wide = router.value.to(at::kFloat);
  const at::Tensor scores = sigmoid ? at::sigmoid(wide) : at::softmax(wide, -1);
  at::Tensor choice = scores;
  const std::string tensor = layer.module(names.correction);
  if (!names.correction.empty() && weights_.has(tensor)) {
    const Placed correction = weight_on(tensor, router.device);
    choice = choice + correction.value.to(at::kFloat).reshape({1, -1});
  }
  if (routing.picked_groups < routing.groups) {
    const auto groups = static_cast<std::int64_t>(routing.groups);
    const at::Tensor members = choice.view({choice.size(0), groups, -1});
    const auto best =
        std::min<std::int64_t>(static_cast<std::int64_t>(routing.best_of_group), members.size(2));
    const at::Tensor sums = std::get<0>(at::topk(members, best, -1)).sum(-1);
    const at::Tensor kept =
        std::get<1>(at::topk(sums, static_cast<std::int64_t>(routing.picked_groups), -1));
    const at::Tensor dropped =
        at::ones_like(sums, sums.options().dtype(at::kBool)).scatter(1, kept, false);
    choice = members.masked_fill(dropped.unsqueeze(2), -std::numeric_limits<double>::infinity())
                 .view({choice.size(0), -1});
  }
  Picked picked;
  picked.device = router.device;
  picked.experts = std::get<1>(at::topk(choice, static_cast<std::int64_t>(routing.picked), -1));
  picked.shares = scores.gather(1, picked.experts);
  if (routing.normalized) {
    const at::Tensor sum = picked.shares.sum(-1, /*keepdim=*/true);
    const at::Tensor least =
        (routing.added != 0 ? sum + routing.added : sum).clamp_min(routing.least_sum);
    picked.shares = picked.shares / least;
  }
  if (routing.scale != 1) picked.shares = picked.shares * routing.scale;
  return picked;
}

// The results of the experts of each position, weighted by their shares. Only experts that some
// position picked are run.
Placed Operations::experts(const LayerRecipe& layer, const Placed& input) {
  const MixtureModules& names = recipe_.family->mixture;
  const Picked picked = route(layer, input);
  const Placed here = placement_.move(input, picked.device);
  // Sums are kept in float32, as transformers keeps them.
  const auto wide = c10::promoteTypes(dtype_, at::kFloat);
  const Placed sum{at::zeros_like(here.value, here.value.options().dtype(wide)), here.device};
  const Placed shares{picked.shares, picked.device};
  const auto activation = [this](const at::Tensor& x) { return activate(x); };
  std::optional<FusedExperts> fused;
  if (names.layout != ExpertLayout::kApart) {
    fused.emplace(weights_, placement_, recipe_, layer, products_);
  }
  for (std::size_t expert = 0; expert < recipe_.routing.experts; ++expert) {
    const at::Tensor chosen =
        picked.experts.eq(static_cast<std::int64_t>(expert)).nonzero();  // (position, rank)
    if (chosen.size(0) == 0) continue;
    const at::Tensor position = chosen.select(1, 0);
    const at::Tensor share = shares.value.index({position, chosen.select(1, 1)}).unsqueeze(1);
    const std::string module = layer.module(names.experts, std::to_string(expert)) + ".";
    const Placed rows{here.value.index_select(0, position), here.device};
    Placed result = fused ? fused->compute(rows, static_cast<std::int64_t>(expert), activation)
                          : gated(rows, module + std::string(names.gate),
                                  module + std::string(names.up), module + std::string(names.down));
    result = placement_.move(result, sum.device);
    require_together({&sum, &result, &shares});
    sum.value.index_add_(0, position, (result.value * share).to(wide));
  }
  return {sum.value.to(dtype_), sum.device};
}

}  // namespace berth

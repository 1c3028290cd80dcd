#include "runtime/exec/fused_experts.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>

namespace berth {
namespace {

at::Tensor clamped_gate(const ClampedExperts& clamped, const at::Tensor& both) {
  const at::Tensor pairs = both.view({both.size(0), -1, 2});
  const at::Tensor gate = pairs.select(2, 0).clamp_max(clamped.limit);
  const at::Tensor up = pairs.select(2, 1).clamp(-clamped.limit, clamped.limit);
  return gate * at::sigmoid(gate * clamped.alpha) * (up + 1);
}

}  // namespace

FusedExperts::FusedExperts(const Weights& weights, Placement& placement, const Recipe& recipe,
                           const LayerRecipe& layer)
    : placement_(placement), recipe_(recipe) {
  const MixtureModules& names = recipe.family->mixture;
  const std::string in = layer.module(names.experts, names.up);
  const std::string out = layer.module(names.experts, names.down);
  // Biases are copies, and come first: of the disk tier, no more than two tensors are held.
  in_.bias = read_bias(weights, in);
  out_.bias = read_bias(weights, out);
  in_.weight = weights.get(in);
  out_.weight = weights.get(out);
}

Placed FusedExperts::read_bias(const Weights& weights, const std::string& name) const {
  const std::string bias = name + "_bias";
  if (!weights.has(bias)) return {};
  Placed here = placement_.move(weights.get(bias), weights.device(name));
  here.value = here.value.clone();
  return here;
}

Placed FusedExperts::multiply(const Placed& x, const Product& product, std::int64_t expert) const {
  const Placed here = placement_.move(x, product.weight.device);
  const bool transposed = recipe_.family->mixture.layout == ExpertLayout::kFusedTransposed;
  const at::Tensor weight = product.weight.value[expert];
  const at::Tensor own = transposed ? weight : weight.transpose(0, 1);
  at::Tensor y = at::matmul(here.value.to(own.scalar_type()), own);
  if (product.bias.value.defined()) y = y + product.bias.value[expert].to(y.scalar_type());
  return {y.to(x.value.scalar_type()), here.device};
}

Placed FusedExperts::compute(const Placed& rows, std::int64_t expert,
                             const std::function<at::Tensor(const at::Tensor&)>& activate) const {
  const Placed both = multiply(rows, in_, expert);
  const std::int64_t width = both.value.size(1) / 2;
  const at::Tensor gated = recipe_.clamped ? clamped_gate(*recipe_.clamped, both.value)
                                           : activate(both.value.narrow(1, 0, width)) *
                                                 both.value.narrow(1, width, width);
  return multiply({gated, both.device}, out_, expert);
}

}  // namespace berth

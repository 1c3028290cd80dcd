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
  in_ = read(weights, layer.module(names.experts, names.up));
  out_ = read(weights, layer.module(names.experts, names.down));
}

FusedExperts::Product FusedExperts::read(const Weights& weights, const std::string& name) const {
  Product product{weights.get(name), {}};
  const std::string bias = name + "_bias";
  if (weights.has(bias)) {
    product.bias = placement_.move(weights.get(bias), product.weight.device);
  }
  return product;
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

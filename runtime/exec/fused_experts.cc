#include "runtime/exec/fused_experts.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>

#include <utility>

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
                           const LayerRecipe& layer, PackedProducts& products)
    : placement_(placement), recipe_(recipe), products_(products) {
  const MixtureModules& names = recipe.family->mixture;
  const std::string in = layer.module(names.experts, names.up);
  const std::string out = layer.module(names.experts, names.down);
  // Biases are copies, and come first: of the disk tier, no more than two tensors are held.
  const Placed in_bias = read_bias(weights, in);
  const Placed out_bias = read_bias(weights, out);
  in_ = read(weights, in, in_bias);
  out_ = read(weights, out, out_bias);
}

FusedExperts::Product FusedExperts::read(const Weights& weights, const std::string& name,
                                         Placed bias) const {
  Product product;
  product.bias = std::move(bias);
  product.device = weights.device(name);
  if (weights.has_packed_experts(name)) {
    product.tiles = weights.matrix(name);
    product.rows = weights.shape(name)[2];
  } else {
    product.weight = weights.get(name).value;
  }
  return product;
}

Placed FusedExperts::read_bias(const Weights& weights, const std::string& name) const {
  const std::string bias = name + "_bias";
  if (!weights.has(bias)) return {};
  Placed here = placement_.move(weights.get(bias), weights.device(name));
  here.value = here.value.clone();
  return here;
}

at::Tensor FusedExperts::multiply_plain(const at::Tensor& x, const at::Tensor& weight) const {
  const bool transposed = recipe_.family->mixture.layout == ExpertLayout::kFusedTransposed;
  const at::Tensor own = transposed ? weight : weight.transpose(0, 1);
  return at::matmul(x.to(own.scalar_type()), own);
}

Placed FusedExperts::multiply(const Placed& x, const Product& product, std::int64_t expert) {
  const Placed here = placement_.move(x, product.device);
  at::Tensor y;
  if (product.weight.defined()) {
    y = multiply_plain(here.value, product.weight[expert]);
  } else {
    const std::size_t first = static_cast<std::size_t>(expert) * product.rows;
    y = products_.multiply(rows_from(product.tiles, first, product.rows), here.value);
  }
  if (product.bias.value.defined()) y = y + product.bias.value[expert].to(y.scalar_type());
  return {y.to(x.value.scalar_type()), here.device};
}

Placed FusedExperts::compute(const Placed& rows, std::int64_t expert,
                             const std::function<at::Tensor(const at::Tensor&)>& activate) {
  const Placed both = multiply(rows, in_, expert);
  const std::int64_t width = both.value.size(1) / 2;
  const at::Tensor gated = recipe_.clamped ? clamped_gate(*recipe_.clamped, both.value)
                                           : activate(both.value.narrow(1, 0, width)) *
                                                 both.value.narrow(1, width, width);
  return multiply({gated, both.device}, out_, expert);
}

}  // namespace berth

#include "runtime/exec/short_convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/zeros.h>

#include <optional>

namespace berth {

Placed short_convolution(Operations& operations, const LayerRecipe& layer, const Placed& input,
                         Placed& kept) {
  const auto name = [&](std::string_view own) { return layer.module(kConvolutionBlock, own); };
  const Placed projected = operations.linear(input, name("in_proj"), false);
  const std::int64_t channels = projected.value.size(1) / 3;
  const auto part = [&](std::int64_t number) {
    return projected.value.narrow(1, number * channels, channels);
  };
  const auto kernel = static_cast<std::int64_t>(operations.recipe().convolution_kernel);
  if (!kept.value.defined()) {
    kept = {at::zeros({channels, kernel}, projected.value.options()), projected.device};
  }
  const at::Tensor weights = operations.weight_on(name("conv.weight"), projected.device).value;
  std::optional<at::Tensor> bias;
  if (operations.has(name("conv.bias"))) {
    bias = operations.weight_on(name("conv.bias"), projected.device).value;
  }
  const at::Tensor fresh = (part(0) * part(2)).transpose(0, 1);
  const at::Tensor seen = at::cat({kept.value.narrow(1, 1, kernel - 1), fresh}, 1);
  const at::Tensor convolved =
      at::conv1d(seen.unsqueeze(0).to(weights.scalar_type()), weights.view({channels, 1, kernel}),
                 bias, at::IntArrayRef{1}, at::IntArrayRef{0}, at::IntArrayRef{1}, channels)
          .squeeze(0)
          .transpose(0, 1)
          .to(fresh.scalar_type());
  const at::Tensor all = at::cat({kept.value, fresh}, 1);
  kept.value.copy_(all.narrow(1, all.size(1) - kernel, kernel));
  return operations.linear({part(1) * convolved, projected.device}, name("out_proj"), false);
}

}  // namespace berth

#include "runtime/exec/short_convolution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/zeros.h>

#include <optional>
#include <string_view>

namespace berth {
namespace {

// The convolution over [channels, positions], whose weights are not held any longer than this.
at::Tensor convolve(Operations& operations, const LayerRecipe& layer, const Placed& seen) {
  const auto small = [&](std::string_view own) {
    return operations.weight_on(layer.module(kConvolutionBlock, own), seen.device).value;
  };
  std::optional<at::Tensor> bias;
  // A copy: one that was read from the disk is not held beside the weights.
  if (operations.has(layer.module(kConvolutionBlock, "conv.bias"))) {
    bias = small("conv.bias").clone();
  }
  const at::Tensor weights = small("conv.weight");
  const std::int64_t channels = seen.value.size(0);
  return at::conv1d(seen.value.unsqueeze(0).to(weights.scalar_type()),
                    weights.view({channels, 1, -1}), bias, at::IntArrayRef{1}, at::IntArrayRef{0},
                    at::IntArrayRef{1}, channels)
      .squeeze(0)
      .transpose(0, 1)
      .to(seen.value.scalar_type());
}

}  // namespace

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
  const at::Tensor all = at::cat({kept.value, (part(0) * part(2)).transpose(0, 1)}, 1);
  const Placed seen{all.narrow(1, 1, all.size(1) - 1), projected.device};
  const at::Tensor convolved = convolve(operations, layer, seen);
  kept.value.copy_(all.narrow(1, all.size(1) - kernel, kernel));
  return operations.linear({part(1) * convolved, projected.device}, name("out_proj"), false);
}

}  // namespace berth

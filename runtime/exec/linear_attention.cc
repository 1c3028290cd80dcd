#include "runtime/exec/linear_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros.h>

#include <cmath>

namespace berth {
namespace {

// What the projections of a layer give for new positions, all on one device: [positions, ...].
struct Projected {
  at::Tensor mixed;  // queries, keys and values of all heads, side by side
  at::Tensor gate;   // [positions, value heads, value dim]
  at::Tensor b, a;   // [positions, value heads]
  DeviceIndex device = 0;
};

// Each of several modules' result, on the device of the first.
std::vector<at::Tensor> project(Operations& operations, const LayerRecipe& layer,
                                const Placed& input, std::initializer_list<const char*> modules,
                                DeviceIndex& device) {
  std::vector<at::Tensor> results;
  for (const char* module : modules) {
    const Placed result = operations.linear(input, layer.module(kLinearBlock, module), false);
    if (results.empty()) device = result.device;
    results.push_back(operations.move(result, device).value);
  }
  return results;
}

Projected split(const std::vector<at::Tensor>& parts, const LinearSizes& sizes) {
  const std::int64_t count = parts[0].size(0);
  return {parts[0], parts[1].view({count, sizes.value_heads, sizes.value_dim}), parts[2], parts[3],
          0};
}

// Qwen3-Next's two matrices: queries, keys, values and gates stand together for each key head, and
// so do b and a.
Projected ungroup(const std::vector<at::Tensor>& parts, const LinearSizes& sizes) {
  const std::int64_t count = parts[0].size(0);
  const std::int64_t share = sizes.value_heads / sizes.key_heads;
  const at::Tensor both = parts[0].view({count, sizes.key_heads, -1});
  const at::Tensor strengths = parts[1].view({count, sizes.key_heads, -1});
  const auto part = [count](const at::Tensor& of, std::int64_t begin, std::int64_t width) {
    return of.narrow(2, begin, width).reshape({count, -1});
  };
  const std::int64_t value = share * sizes.value_dim;
  const at::Tensor query = part(both, 0, sizes.key_dim);
  const at::Tensor key = part(both, sizes.key_dim, sizes.key_dim);
  return {at::cat({query, key, part(both, 2 * sizes.key_dim, value)}, 1),
          part(both, 2 * sizes.key_dim + value, value)
              .view({count, sizes.value_heads, sizes.value_dim}),
          part(strengths, 0, share), part(strengths, share, share), 0};
}

Projected project(Operations& operations, const LayerRecipe& layer, const Placed& input) {
  const LinearSizes& sizes = *operations.recipe().linear;
  DeviceIndex device = 0;
  const bool grouped = operations.has(layer.module(kLinearBlock, "in_proj_qkvz.weight"));
  Projected projected =
      grouped ? ungroup(project(operations, layer, input, {"in_proj_qkvz", "in_proj_ba"}, device),
                        sizes)
              : split(project(operations, layer, input,
                              {"in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"}, device),
                      sizes);
  projected.device = device;
  return projected;
}

// The convolution over [positions, channels] and what was kept of those before.
at::Tensor convolve(const at::Tensor& mixed, const at::Tensor& weight, at::Tensor& inputs) {
  const std::int64_t kernel = weight.size(2);
  const std::int64_t count = mixed.size(0);
  const at::Tensor all = at::cat({inputs, mixed.transpose(0, 1)}, 1);
  inputs.copy_(all.narrow(1, all.size(1) - kernel, kernel));
  const at::Tensor seen = all.narrow(1, 1, kernel - 1 + count).to(weight.scalar_type());
  const at::Tensor out = at::conv1d(seen.unsqueeze(0), weight, {}, at::IntArrayRef{1},
                                    at::IntArrayRef{0}, at::IntArrayRef{1}, weight.size(0));
  return out.squeeze(0).transpose(0, 1);
}

at::Tensor of_length_one(const at::Tensor& x) {
  return x * at::rsqrt(x.square().sum(-1, /*keepdim=*/true) + 1e-6);
}

// [positions, value heads, value dim] in float32.
at::Tensor delta_rule(const at::Tensor& mixed, const at::Tensor& decay, const at::Tensor& strength,
                      const LinearSizes& sizes, at::Tensor& state) {
  const std::int64_t count = mixed.size(0);
  const at::Tensor wide = mixed.to(at::kFloat);
  const auto heads = [&](std::int64_t begin) {
    return wide.narrow(1, begin, sizes.keys())
        .reshape({count, sizes.key_heads, sizes.key_dim})
        .repeat_interleave(sizes.value_heads / sizes.key_heads, 1);
  };
  const at::Tensor query = of_length_one(heads(0)) / std::sqrt(static_cast<double>(sizes.key_dim));
  const at::Tensor key = of_length_one(heads(sizes.keys()));
  const at::Tensor value = wide.narrow(1, 2 * sizes.keys(), sizes.values())
                               .reshape({count, sizes.value_heads, sizes.value_dim});
  at::Tensor out = at::empty_like(value);
  for (std::int64_t t = 0; t < count; ++t) {
    const at::Tensor k = key[t].unsqueeze(2);
    state.mul_(decay[t].view({-1, 1, 1}));
    const at::Tensor held = (state * k).sum(1);
    const at::Tensor change = (value[t] - held) * strength[t].unsqueeze(1);
    state.add_(k * change.unsqueeze(1));
    out[t].copy_((state * query[t].unsqueeze(2)).sum(1));
  }
  return out;
}

}  // namespace

Placed linear_attention(Operations& operations, const LayerRecipe& layer, const Placed& input,
                        LinearState& kept) {
  const LinearSizes& sizes = *operations.recipe().linear;
  const Projected projected = project(operations, layer, input);
  const auto small = [&](const char* name) {
    return operations.weight_on(layer.module(kLinearBlock, name), projected.device).value;
  };
  if (!kept.state.value.defined()) {
    const auto options = projected.mixed.options();
    kept.inputs = {at::zeros({sizes.channels(), sizes.kernel}, options), projected.device};
    kept.state = {
        at::zeros({sizes.value_heads, sizes.key_dim, sizes.value_dim}, options.dtype(at::kFloat)),
        projected.device};
  }
  const at::ScalarType dtype = projected.mixed.scalar_type();
  const at::Tensor mixed = operations.activate(
      convolve(projected.mixed, small("conv1d.weight"), kept.inputs.value).to(dtype));
  const at::Tensor rate = small("A_log").to(at::kFloat).exp().neg();
  const at::Tensor decay =
      (rate * at::softplus(projected.a.to(at::kFloat) + small("dt_bias"))).exp();
  const at::Tensor strength = projected.b.sigmoid().to(at::kFloat);
  const at::Tensor read = delta_rule(mixed, decay, strength, sizes, kept.state.value);
  // Transformers' RMSNormGated: the norm first, then the gate, which is computed in float32.
  const at::Tensor wide = read.to(dtype).to(at::kFloat);
  const at::Tensor scaled =
      wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + operations.recipe().norm_eps);
  const at::Tensor normal = small("norm.weight") * scaled.to(dtype);
  const at::Tensor gated = (normal * at::silu(projected.gate.to(at::kFloat))).to(dtype);
  const Placed result{gated.reshape({gated.size(0), -1}), projected.device};
  return operations.linear(result, layer.module(kLinearBlock, "out_proj"), false);
}

}  // namespace berth

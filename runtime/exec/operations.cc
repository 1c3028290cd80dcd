#include "runtime/exec/operations.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <vector>

#include "berth/error.h"

namespace berth {

Placed Operations::embed(const std::string& weight, std::span<const std::int64_t> ids) {
  if (weights_.for_kernels(weight)) {
    const DeviceIndex device = weights_.device(weight);
    const at::Tensor rows = rows_of(weights_.lying(weight), ids);
    return {rows.to(placement_.torch_device(device), dtype_), device};
  }
  const at::Tensor host = at::from_blob(const_cast<std::int64_t*>(ids.data()),
                                        {static_cast<std::int64_t>(ids.size())}, at::kLong);
  const Placed table = weights_.get(weight);
  return {at::embedding(table.value, host.to(table.value.device())).to(dtype_), table.device};
}

Placed Operations::add(const Placed& left, const Placed& right) const {
  require_together({&left, &right});
  return {left.value + right.value, left.device};
}

Placed Operations::add_change(const Placed& stream, const Placed& change) const {
  if (recipe_.residual_scale == 1) return add(stream, change);
  return add(stream, {change.value * recipe_.residual_scale, change.device});
}

Placed Operations::weight_on(const std::string& name, DeviceIndex device) {
  return placement_.move(weights_.get(name), device);
}

Placed Operations::norm(const Placed& input, const std::string& module,
                        std::optional<double> epsilon) {
  const std::string weight = module + ".weight";
  const DeviceIndex device = weights_.has(weight) ? weights_.device(weight) : input.device;
  Placed result =
      normalize(placement_.move(input, device), module, epsilon.value_or(recipe_.norm_eps));
  result.value = result.value.to(dtype_);
  return result;
}

// A norm without weights is one whose weights change nothing.
Placed Operations::normalize(const Placed& input, const std::string& module, double epsilon) {
  const std::int64_t width = input.value.size(-1);
  at::Tensor weight, bias;
  if (weights_.has(module + ".weight")) {
    const Placed own = weights_.get(module + ".weight");
    require_together({&input, &own});
    weight = own.value;
  }
  const Norm kind = recipe_.family->norms.kind;
  if (kind == Norm::kLayerPlusOne && weight.defined()) weight = weight + 1.0;
  if (kind == Norm::kLayer || kind == Norm::kLayerPlusOne) {
    const at::ScalarType dtype = weight.defined() ? weight.scalar_type() : at::kFloat;
    if (weights_.has(module + ".bias")) {
      bias = weight_on(module + ".bias", input.device).value.reshape({-1});
    }
    // Each head may have weights of its own.
    if (weight.defined() && weight.dim() > 1) {
      const at::Tensor plain = at::layer_norm(input.value.to(dtype), {width}, {}, {}, epsilon);
      return {plain * weight, input.device};
    }
    return {at::layer_norm(input.value.to(dtype), {width}, weight, bias, epsilon), input.device};
  }
  const at::Tensor wide = input.value.to(at::kFloat);
  const at::Tensor scaled = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  if (!weight.defined()) return {scaled, input.device};
  if (kind == Norm::kRmsPlusOne) {
    return {scaled * (1.0 + weight.to(at::kFloat)), input.device};
  }
  return {weight * scaled.to(input.value.scalar_type()), input.device};
}

Placed Operations::linear(const Placed& input, const std::string& module, bool transposed) {
  if (!transposed && weights_.for_kernels(module + ".weight")) return packed_linear(input, module);
  const Placed weight = weights_.get(module + ".weight");
  const Placed here = placement_.move(input, weight.device);
  require_together({&here, &weight});
  const at::Tensor x = here.value.to(weight.value.scalar_type());
  const std::string bias_name = module + ".bias";
  at::Tensor bias;
  if (weights_.has(bias_name)) {
    bias = weight_on(bias_name, weight.device).value.to(weight.value.scalar_type());
  }
  at::Tensor y;
  if (!transposed) {
    y = bias.defined() ? at::linear(x, weight.value, bias) : at::linear(x, weight.value);
  } else {
    y = bias.defined() ? at::addmm(bias, x, weight.value) : at::mm(x, weight.value);
  }
  return {y.to(dtype_), weight.device};
}

Placed Operations::packed_linear(const Placed& input, const std::string& module) {
  const DeviceIndex device = weights_.device(module + ".weight");
  const Placed here = placement_.move(input, device);
  at::Tensor y = products_.multiply(weights_.matrix(module + ".weight"), here.value);
  const std::string bias = module + ".bias";
  if (weights_.has(bias)) y = y + weight_on(bias, device).value.to(at::kFloat);
  return {y.to(dtype_), device};
}

// Reshapes [positions, heads x head size] to [positions, heads, head size].
Placed Operations::split_heads(const Placed& projected) const {
  return {projected.value.view({projected.value.size(0), -1, recipe_.head_dim}), projected.device};
}

Placed Operations::norm_heads(const LayerRecipe& layer, std::string_view name,
                              const Placed& heads) {
  const std::string module = layer.module(name);
  switch (recipe_.family->attention.head_norm) {
    case HeadNorm::kEach:
    case HeadNorm::kOwn:
      return norm(heads, module);
    case HeadNorm::kWhole: {
      Placed whole = norm({heads.value.flatten(1), heads.device}, module);
      whole.value = whole.value.view(heads.value.sizes());
      return whole;
    }
    case HeadNorm::kModule:
      break;
  }
  std::vector<at::Tensor> each;
  for (std::int64_t head = 0; head < heads.value.size(1); ++head) {
    const Placed one{heads.value.select(1, head), heads.device};
    const Placed normed = norm(one, module + ".norms." + std::to_string(head));
    each.push_back(placement_.move(normed, heads.device).value);
  }
  return {at::stack(each, 1), heads.device};
}

// Of a projection that has all queries, all keys and all values in this order.
Heads Operations::split_in_order(const Placed& fused) const {
  const std::int64_t query_width = recipe_.heads * recipe_.head_dim;
  const std::int64_t kv_width = recipe_.kv_heads * recipe_.head_dim;
  const auto part = [&](std::int64_t begin, std::int64_t width) {
    return split_heads({fused.value.narrow(1, begin, width).contiguous(), fused.device});
  };
  return {part(0, query_width),
          part(query_width, kv_width),
          part(query_width + kv_width, kv_width),
          {}};
}

// Of one that has the queries of a key, the key and its value, key by key.
Heads Operations::split_by_key(const Placed& fused) const {
  const std::int64_t count = fused.value.size(0);
  const std::int64_t queries = recipe_.heads / recipe_.kv_heads;
  const at::Tensor groups =
      fused.value.view({count, recipe_.kv_heads, queries + 2, recipe_.head_dim});
  const auto part = [&](std::int64_t begin, std::int64_t width) {
    return split_heads({groups.narrow(2, begin, width).reshape({count, -1}), fused.device});
  };
  return {part(0, queries), part(queries, 1), part(queries + 1, 1), {}};
}

Heads Operations::project_heads(const LayerRecipe& layer, const Placed& input) {
  const AttentionModules& names = recipe_.family->attention;
  const bool transposed = recipe_.family->transposed_weights;
  Heads heads;
  if (names.fused.empty()) {
    Placed query = linear(input, layer.module(names.query), transposed);
    if (names.gated) {  // behind the query of each head
      const at::Tensor both = query.value.view({query.value.size(0), recipe_.heads, -1});
      const auto half = [&](std::int64_t begin) {
        return both.narrow(2, begin, recipe_.head_dim).reshape({both.size(0), -1});
      };
      heads.gate = {half(recipe_.head_dim), query.device};
      query.value = half(0);
    }
    heads.query = split_heads(query);
    heads.key = split_heads(linear(input, layer.module(names.key), transposed));
    heads.value = split_heads(linear(input, layer.module(names.value), transposed));
  } else {
    const Placed fused = linear(input, layer.module(names.fused), transposed);
    heads = names.fused_by_key ? split_by_key(fused) : split_in_order(fused);
  }
  // Where a device map put them on different devices, attention is computed on that of the keys.
  const DeviceIndex device = heads.key.device;
  if (layer.head_norms && !names.norm_after_rotation) {
    heads.query = norm_heads(layer, names.query_norm, heads.query);
    heads.key = norm_heads(layer, names.key_norm, heads.key);
  }
  for (Placed* one : {&heads.query, &heads.key, &heads.value}) {
    *one = placement_.move(*one, device);
    if (recipe_.clip > 0) one->value = one->value.clamp(-recipe_.clip, recipe_.clip);
    one->value = one->value.transpose(0, 1);
  }
  if (names.gated) heads.gate = placement_.move(heads.gate, device);
  return heads;
}

void Operations::norm_rotated(const LayerRecipe& layer, Heads& heads) {
  const AttentionModules& names = recipe_.family->attention;
  if (!layer.head_norms || !names.norm_after_rotation) return;
  const auto normed = [&](const Placed& rotated, std::string_view name) {
    const Placed split{rotated.value.transpose(0, 1), rotated.device};
    Placed result = placement_.move(norm_heads(layer, name, split), rotated.device);
    result.value = result.value.transpose(0, 1);
    return result;
  };
  heads.query = normed(heads.query, names.query_norm);
  heads.key = normed(heads.key, names.key_norm);
}

// Angles of `count` positions from `first` on, of a pass that ends at `length`.
Operations::Angles Operations::make_angles(const Rotary& rotary, std::int64_t first,
                                           std::int64_t count, std::int64_t length,
                                           at::Device device) const {
  const auto frequencies = rotary.frequencies(static_cast<std::uint64_t>(length));
  const at::Tensor frequency =
      at::from_blob(const_cast<float*>(frequencies.data()),
                    {1, static_cast<std::int64_t>(frequencies.size())}, at::kFloat);
  const at::Tensor half = at::arange(first, first + count, at::kFloat).unsqueeze(1) * frequency;
  const at::Tensor angle =
      rotary.neighbours ? half.repeat_interleave(2, 1) : at::cat({half, half}, 1);
  const double scale = rotary.scale(static_cast<std::uint64_t>(length));
  return {(angle.cos() * scale).to(device, dtype_), (angle.sin() * scale).to(device, dtype_)};
}

Operations::Angles Operations::angles(DeviceIndex device, std::size_t rotary, std::int64_t position,
                                      std::int64_t count, std::int64_t capacity) {
  const Rotary& own = recipe_.rotaries[rotary];
  const at::Device target = placement_.torch_device(device);
  if (own.trained > 0) return make_angles(own, position, count, position + count, target);
  Angles& all = angles_[{device, rotary}];
  if (!all.cosine.defined()) all = make_angles(own, 0, capacity, capacity, target);
  return {all.cosine.narrow(0, position, count), all.sine.narrow(0, position, count)};
}

namespace {

// Rotates pairs of the first n dimensions: neighbours, or i and i + n/2. The others stay as they
// are.
at::Tensor rotated(const at::Tensor& heads, const at::Tensor& cosine, const at::Tensor& sine,
                   bool neighbours) {
  const std::int64_t rotating = cosine.size(1);
  const std::int64_t half = rotating / 2;
  const std::int64_t rest = heads.size(2) - rotating;
  const at::Tensor turning = heads.narrow(2, 0, rotating);
  at::Tensor swapped;
  if (neighbours) {
    const at::Tensor pairs = turning.unflatten(2, {half, 2});
    swapped = at::stack({pairs.select(3, 1).neg(), pairs.select(3, 0)}, 3).flatten(2);
  } else {
    swapped = at::cat({turning.narrow(2, half, half).neg(), turning.narrow(2, 0, half)}, 2);
  }
  const at::Tensor turned = turning * cosine + swapped * sine;
  return rest == 0 ? turned : at::cat({turned, heads.narrow(2, rotating, rest)}, 2);
}

}  // namespace

void Operations::rotate(Heads& heads, std::size_t rotary, std::int64_t position,
                        std::int64_t capacity) {
  require_together({&heads.query, &heads.key});
  const bool neighbours = recipe_.rotaries[rotary].neighbours;
  const Angles here = angles(heads.key.device, rotary, position, heads.key.value.size(1), capacity);
  heads.query.value = rotated(heads.query.value, here.cosine, here.sine, neighbours);
  heads.key.value = rotated(heads.key.value, here.cosine, here.sine, neighbours);
  const Rotary& own = recipe_.rotaries[rotary];
  if (own.growth == 0) return;
  std::vector<float> scales;
  for (std::int64_t i = 0; i < heads.query.value.size(1); ++i) {
    scales.push_back(static_cast<float>(own.query_scale(static_cast<std::uint64_t>(position + i))));
  }
  const auto count = static_cast<std::int64_t>(scales.size());
  const at::Tensor scale = at::from_blob(scales.data(), {1, count, 1}, at::kFloat);
  // A copy, where nothing converts: the scales end here.
  heads.query.value =
      heads.query.value * scale.to(heads.query.value.options(), false, /*copy=*/true);
}

Placed Operations::join_heads(const LayerRecipe& layer, const Placed& heads, const Placed& gate) {
  const std::int64_t positions = heads.value.size(1);
  Placed joined{heads.value.transpose(0, 1).reshape({positions, -1}), heads.device};
  if (gate.value.defined()) {
    require_together({&joined, &gate});
    joined.value = joined.value * gate.value.sigmoid();
  }
  return linear(joined, layer.module(recipe_.family->attention.out),
                recipe_.family->transposed_weights);
}

at::Tensor Operations::activate(const at::Tensor& input) const {
  switch (recipe_.activation) {
    case Activation::kSilu:
      return at::silu(input);
    case Activation::kGelu:
      return at::gelu(input);
    case Activation::kGeluTanh:
      return at::gelu(input, "tanh");
    case Activation::kRelu:
      return at::relu(input);
    case Activation::kReluSquared:
      return at::relu(input).square();
    case Activation::kXielu:
      break;  // xielu()
  }
  return input;
}

// As transformers' XIELUActivation computes it.
Placed Operations::xielu(const Placed& input, const std::string& module) {
  const auto number = [&](const char* name) {
    return weight_on(module + "." + name, input.device).value.to(dtype_);
  };
  const at::Tensor& x = input.value;
  const at::Tensor beta = number("beta");
  const at::Tensor positive = at::softplus(number("alpha_p"));
  const at::Tensor negative = beta + at::softplus(number("alpha_n"));
  const at::Tensor below = (at::expm1(at::minimum(x, number("eps"))) - x) * negative + beta * x;
  return {at::where(x > 0, positive * x * x + beta * x, below), input.device};
}

Placed Operations::gated(const Placed& input, const std::string& gate, const std::string& up,
                         const std::string& down) {
  Placed opened = linear(input, gate, false);
  const Placed wide = linear(input, up, false);
  opened.value = activate(opened.value);
  opened = placement_.move(opened, wide.device);
  require_together({&opened, &wide});
  return linear({opened.value * wide.value, wide.device}, down, false);
}

Placed Operations::feed_forward(const LayerRecipe& layer, const Placed& input) {
  if (!layer.experts) return feed_forward(layer, recipe_.family->feed_forward, input);
  const Placed sum = experts(layer, input);
  if (!layer.shared) return sum;
  const MixtureModules& names = recipe_.family->mixture;
  Placed shared = feed_forward(layer, names.shared, input);
  if (!names.shared_gate.empty()) {
    Placed gate = linear(input, layer.module(names.shared_gate), false);
    gate.value = at::sigmoid(gate.value);
    gate = placement_.move(gate, shared.device);
    shared.value = gate.value * shared.value;
  }
  return add(sum, placement_.move(shared, sum.device));
}

Placed Operations::feed_forward(const LayerRecipe& layer, const FeedForwardModules& names,
                                const Placed& input) {
  const bool transposed = recipe_.family->transposed_weights;
  const std::string up = layer.module(names.block, names.up);
  const std::string down = layer.module(names.block, names.down);
  switch (names.kind) {
    case FeedForward::kPlain: {
      Placed wide = linear(input, up, transposed);
      if (recipe_.activation == Activation::kXielu) {
        wide = xielu(wide, layer.module(names.block, names.activation));
      } else {
        wide.value = activate(wide.value);
      }
      return linear(wide, down, transposed);
    }
    case FeedForward::kGated:
      return gated(input, layer.module(names.block, names.gate), up, down);
    case FeedForward::kFusedGated: {
      const Placed both = linear(input, up, false);
      const std::int64_t width = both.value.size(1) / 2;
      const at::Tensor wide =
          activate(both.value.narrow(1, 0, width)) * both.value.narrow(1, width, width);
      return linear({wide, both.device}, down, false);
    }
  }
  throw Error("internal error: an unknown feed-forward");
}

}  // namespace berth

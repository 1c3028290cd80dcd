#include "runtime/exec/operations.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <limits>

#include "berth/error.h"

namespace berth {

Placed Operations::add(const Placed& left, const Placed& right) const {
  require_together({&left, &right});
  return {left.value + right.value, left.device};
}

Placed Operations::weight_on(const std::string& name, DeviceIndex device) {
  return placement_.move(weights_.get(name), device);
}

Placed Operations::norm(const Placed& input, const std::string& module) {
  Placed result = normalize(placement_.move(input, weights_.device(module + ".weight")), module);
  result.value = result.value.to(dtype_);
  return result;
}

Placed Operations::normalize(const Placed& input, const std::string& module) {
  const Placed weight = weights_.get(module + ".weight");
  require_together({&input, &weight});
  const std::int64_t width = input.value.size(-1);
  if (recipe_.family->norms.kind == Norm::kLayer) {
    const Placed bias = weight_on(module + ".bias", weight.device);
    return {at::layer_norm(input.value.to(weight.value.scalar_type()), {width}, weight.value,
                           bias.value, recipe_.norm_eps),
            weight.device};
  }
  const at::Tensor wide = input.value.to(at::kFloat);
  const at::Tensor scaled =
      wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + recipe_.norm_eps);
  if (recipe_.family->norms.kind == Norm::kRmsPlusOne) {
    return {scaled * (1.0 + weight.value.to(at::kFloat)), weight.device};
  }
  return {weight.value * scaled.to(input.value.scalar_type()), weight.device};
}

Placed Operations::linear(const Placed& input, const std::string& module, bool transposed) {
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

// Reshapes [positions, heads x head size] to [heads, positions, head size], and normalizes each
// head where the family does that.
Placed Operations::split_heads(const Placed& projected, const std::string& head_norm) {
  Placed heads{projected.value.view({projected.value.size(0), -1, recipe_.head_dim}),
               projected.device};
  if (!head_norm.empty()) heads = norm(heads, head_norm);
  heads.value = heads.value.transpose(0, 1);
  return heads;
}

Heads Operations::project_heads(const LayerRecipe& layer, const Placed& input) {
  const AttentionModules& names = recipe_.family->attention;
  const bool transposed = recipe_.family->transposed_weights;
  const auto norm_of = [&](std::string_view name) {
    return layer.head_norms ? layer.module(name) : std::string();
  };
  if (names.fused.empty()) {
    Placed query = linear(input, layer.module(names.query), transposed);
    Placed gate;
    if (names.gated) {  // behind the query of each head
      const at::Tensor both = query.value.view({query.value.size(0), recipe_.heads, -1});
      const auto half = [&](std::int64_t begin) {
        return both.narrow(2, begin, recipe_.head_dim).reshape({both.size(0), -1});
      };
      gate = {half(recipe_.head_dim), query.device};
      query.value = half(0);
    }
    const Placed key = linear(input, layer.module(names.key), transposed);
    const Placed value = linear(input, layer.module(names.value), transposed);
    Heads heads{split_heads(query, norm_of(names.query_norm)),
                split_heads(key, norm_of(names.key_norm)), split_heads(value, ""), gate};
    // Where a device map put them on different devices, attention is computed on that of the keys.
    const DeviceIndex device = key.device;
    heads.query = placement_.move(heads.query, device);
    heads.key = placement_.move(heads.key, device);
    heads.value = placement_.move(heads.value, device);
    if (names.gated) heads.gate = placement_.move(heads.gate, device);
    return heads;
  }
  const Placed fused = linear(input, layer.module(names.fused), transposed);
  const std::int64_t query_width = recipe_.heads * recipe_.head_dim;
  const std::int64_t kv_width = recipe_.kv_heads * recipe_.head_dim;
  const auto part = [&](std::int64_t begin, std::int64_t width) {
    return split_heads({fused.value.narrow(1, begin, width), fused.device}, "");
  };
  return {part(0, query_width),
          part(query_width, kv_width),
          part(query_width + kv_width, kv_width),
          {}};
}

const Operations::Angles& Operations::angles(DeviceIndex device, std::size_t rotary,
                                             std::int64_t capacity) {
  const std::pair key(device, rotary);
  const auto known = angles_.find(key);
  if (known != angles_.end()) return known->second;
  const auto& frequencies = recipe_.rotaries[rotary].inverse_frequency;
  const at::Tensor frequency =
      at::from_blob(const_cast<float*>(frequencies.data()),
                    {1, static_cast<std::int64_t>(frequencies.size())}, at::kFloat);
  const at::Tensor position = at::arange(capacity, at::kFloat).unsqueeze(1);
  const at::Tensor half = position * frequency;
  const at::Tensor angle = at::cat({half, half}, 1);
  const auto target = placement_.torch_device(device);
  return angles_
      .emplace(key, Angles{angle.cos().to(target, dtype_), angle.sin().to(target, dtype_)})
      .first->second;
}

// Rotates pairs of dimensions: i and i + n/2, where the first n dimensions rotate. The others stay
// as they are.
at::Tensor Operations::rotated(const at::Tensor& heads, const Angles& angles,
                               std::int64_t position) const {
  const std::int64_t rotating = angles.cosine.size(1);
  const std::int64_t half = rotating / 2;
  const std::int64_t rest = heads.size(2) - rotating;
  const at::Tensor cosine = angles.cosine.narrow(0, position, heads.size(1));
  const at::Tensor sine = angles.sine.narrow(0, position, heads.size(1));
  const at::Tensor turning = heads.narrow(2, 0, rotating);
  const at::Tensor swapped =
      at::cat({turning.narrow(2, half, half).neg(), turning.narrow(2, 0, half)}, 2);
  const at::Tensor turned = turning * cosine + swapped * sine;
  return rest == 0 ? turned : at::cat({turned, heads.narrow(2, rotating, rest)}, 2);
}

void Operations::rotate(Heads& heads, std::size_t rotary, std::int64_t position,
                        std::int64_t capacity) {
  require_together({&heads.query, &heads.key});
  const Angles& here = angles(heads.key.device, rotary, capacity);
  heads.query.value = rotated(heads.query.value, here, position);
  heads.key.value = rotated(heads.key.value, here, position);
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
  }
  return input;
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
      wide.value = activate(wide.value);
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

// The experts that the router picks for each position, [positions, picked], and their shares, in
// float32.
Operations::Picked Operations::route(const LayerRecipe& layer, const Placed& input) {
  const Routing& routing = recipe_.routing;
  const MixtureModules& names = recipe_.family->mixture;
  const Placed router = linear(input, layer.module(names.router), false);
  const bool sigmoid = routing.score == RouterScore::kSigmoid;
  const at::Tensor wide = router.value.to(at::kFloat);
  const at::Tensor scores = sigmoid ? at::sigmoid(wide) : at::softmax(wide, -1);
  at::Tensor choice = scores;
  if (!names.correction.empty()) {
    const Placed correction = weight_on(layer.module(names.correction), router.device);
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
    picked.shares = picked.shares / (sigmoid ? sum + 1e-20 : sum);
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
  for (std::size_t expert = 0; expert < recipe_.routing.experts; ++expert) {
    const at::Tensor chosen =
        picked.experts.eq(static_cast<std::int64_t>(expert)).nonzero();  // (position, rank)
    if (chosen.size(0) == 0) continue;
    const at::Tensor position = chosen.select(1, 0);
    const at::Tensor share = shares.value.index({position, chosen.select(1, 1)}).unsqueeze(1);
    const std::string module = layer.module(names.experts, std::to_string(expert)) + ".";
    const Placed rows{here.value.index_select(0, position), here.device};
    Placed result = gated(rows, module + std::string(names.gate), module + std::string(names.up),
                          module + std::string(names.down));
    result = placement_.move(result, sum.device);
    require_together({&sum, &result, &shares});
    sum.value.index_add_(0, position, (result.value * share).to(wide));
  }
  return {sum.value.to(dtype_), sum.device};
}

}  // namespace berth

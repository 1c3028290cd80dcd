#include "runtime/program/linear_attention.h"

#include <algorithm>
#include <cmath>

#include "runtime/kernels/elementwise.h"

namespace berth {
namespace {

// As torch has it: beyond 20 there is no difference.
float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

// A norm that scales vectors to the length `length`: x length / sqrt(sum of x^2 + 1e-6).
NormWeights to_length(float length, std::size_t width) {
  const auto size = static_cast<float>(width);
  NormWeights norm;
  norm.weight.assign(width, length / std::sqrt(size));
  norm.epsilon = 1e-6F / size;
  return norm;
}

}  // namespace

// The rows of kHeads in the order that is not grouped, in kWide.
float* LinearAttentionStep::ungrouped(Pass& pass) const {
  const float* const from = pass.of(Buffer::kHeads);
  float* const to = pass.need(Buffer::kWide, width());
  const std::size_t share = heads.value_heads / heads.key_heads;
  const std::size_t values = share * heads.value_dim;
  for_rows(pass, [&](std::size_t row) {
    const float* x = from + row * width();
    float* const out = to + row * width();
    const auto take = [&](std::size_t count, std::size_t place) {
      std::copy_n(x, count, out + place);
      x += count;
    };
    for (std::size_t head = 0; head < heads.key_heads; ++head) {
      take(heads.key_dim, head * heads.key_dim);
      take(heads.key_dim, heads.keys() + head * heads.key_dim);
      take(values, 2 * heads.keys() + head * values);
      take(values, channels() + head * values);
    }
    const std::size_t behind = channels() + heads.values();
    for (std::size_t head = 0; head < heads.key_heads; ++head) {
      take(share, behind + head * share);
      take(share, behind + heads.value_heads + head * share);
    }
  });
  return to;
}

// Replaces queries, keys and values by what the convolution makes of them and of those before.
void LinearAttentionStep::convolve_rows(Pass& pass, float* rows) {
  std::vector<std::byte>& kept = memories[pass.sequence].inputs;
  float* const window = inputs.begin(pass, kept);
  for_rows(pass, [&](std::size_t row) {
    std::copy_n(rows + row * width(), channels(), inputs.own(window, row));
    inputs.set(window, row);
  });
  for_rows(pass, [&](std::size_t row) {
    float* const own = rows + row * width();
    convolve(convolution.data(), window + row * channels(), inputs.kernel(), channels(), own);
    activate(activation, own, nullptr, channels(), own);
  });
  inputs.keep(window, pass.rows(), kept);
}

void LinearAttentionStep::set_strengths(const float* row, float* decays, float* strengths) const {
  const float* const b = row + channels() + heads.values();
  const float* const a = b + heads.value_heads;
  for (std::size_t head = 0; head < heads.value_heads; ++head) {
    strengths[head] = sigmoid(b[head]);
    decays[head] = std::exp(-decay[head] * softplus(a[head] + decay_bias[head]));
  }
}

std::size_t LinearAttentionStep::kept_bytes() const {
  std::size_t bytes = 0;
  for (const LinearMemory& memory : memories.all()) bytes += memory.bytes();
  return bytes;
}

void LinearAttentionStep::run(Pass& pass) {
  float* const rows = grouped ? ungrouped(pass) : pass.of(Buffer::kHeads);
  std::vector<float>& state = memories[pass.sequence].state;
  state.resize(heads.value_heads * heads.key_dim * heads.value_dim);
  convolve_rows(pass, rows);
  float* const decays = pass.need(Buffer::kRouter, 2 * heads.value_heads);
  float* const strengths = decays + pass.rows() * heads.value_heads;
  for_rows(pass, [&](std::size_t row) {
    float* const own = rows + row * width();
    for (std::size_t head = 0; head < 2 * heads.key_heads; ++head) {
      float* const x = own + head * heads.key_dim;
      (head < heads.key_heads ? query_norm : key_norm).apply(x, x);
    }
    set_strengths(own, decays + row * heads.value_heads, strengths + row * heads.value_heads);
  });
  float* const out = pass.need(Buffer::kAttended, heads.values());
  delta_rule(heads, {pass.rows(), rows, width(), decays, strengths}, state.data(), out, pass.team);
  for_rows(pass, [&](std::size_t row) {
    const float* const gates = rows + row * width() + channels();
    for (std::size_t head = 0; head < heads.value_heads; ++head) {
      float* const x = out + row * heads.values() + head * heads.value_dim;
      norm.apply(x, x);
      activate(Gate::kSilu, gates + head * heads.value_dim, x, heads.value_dim, x);
    }
  });
}

void compile_linear_attention(Builder& builder, const LayerRecipe& layer, CacheFormat format) {
  const LinearSizes& sizes = *builder.recipe().linear;
  const ProgramWeights& weights = builder.weights();
  const auto name = [&](std::string_view module) { return layer.module(kLinearBlock, module); };
  const bool grouped = weights.has(name("in_proj_qkvz.weight"));
  const std::vector<std::string> modules =
      grouped ? std::vector{name("in_proj_qkvz"), name("in_proj_ba")}
              : std::vector{name("in_proj_qkv"), name("in_proj_z"), name("in_proj_b"),
                            name("in_proj_a")};
  builder.products(modules, 0, Buffer::kInput, Buffer::kHeads);
  for (const char* small : {"conv1d.weight", "A_log", "dt_bias", "norm.weight"}) {
    builder.hop(weights.device(name(small)), builder.at());
  }
  auto& step = builder.emit<LinearAttentionStep>();
  step.heads = {static_cast<std::size_t>(sizes.key_heads),
                static_cast<std::size_t>(sizes.value_heads),
                static_cast<std::size_t>(sizes.key_dim), static_cast<std::size_t>(sizes.value_dim)};
  step.grouped = grouped;
  step.inputs = ConvolutionInputs(format, static_cast<std::size_t>(sizes.kernel),
                                  static_cast<std::size_t>(sizes.channels()));
  step.convolution = weights.floats(name("conv1d.weight"));
  step.activation = builder.recipe().activation;
  step.decay = weights.floats(name("A_log"));
  for (float& x : step.decay) x = std::exp(x);
  step.decay_bias = weights.floats(name("dt_bias"));
  const float root = std::sqrt(static_cast<float>(step.heads.key_dim));
  step.query_norm = to_length(1 / root, step.heads.key_dim);
  step.key_norm = to_length(1, step.heads.key_dim);
  step.norm = builder.norm_weights(name("norm"), Norm::kRms);
  builder.product(name("out_proj"), false, Buffer::kAttended, Buffer::kChange);
}

}  // namespace berth

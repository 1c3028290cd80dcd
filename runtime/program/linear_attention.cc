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
  const std::size_t bytes = cache_vector_bytes(format, channels());
  const std::size_t before = kernel - 1;
  float* const window = pass.need(Buffer::kGated, channels(), before + pass.rows());
  const auto at = [&](std::size_t i) { return std::span(window + i * channels(), channels()); };
  std::vector<std::byte>& inputs = memories[pass.sequence].inputs;
  inputs.resize(kernel * bytes);  // zeros at first
  for (std::size_t i = 0; i < before; ++i) {
    load_vector(format, inputs.data() + (i + 1) * bytes, at(i));
  }
  for_rows(pass, [&](std::size_t row) {
    // Rounded as what is kept, so that it does not matter where a prompt is divided.
    std::vector<std::byte> kept(bytes);
    store_vector(format, std::span(rows + row * width(), channels()), kept.data());
    load_vector(format, kept.data(), at(before + row));
  });
  for_rows(pass, [&](std::size_t row) {
    float* const own = rows + row * width();
    convolve(convolution.data(), at(row).data(), kernel, channels(), own);
    activate(activation, own, nullptr, channels(), own);
  });
  // The window has kernel - 1 positions at least in addition to those of the pass.
  const std::size_t end = before + pass.rows();
  const std::size_t kept = std::min(kernel, end);
  for (std::size_t i = 0; i < kept; ++i) {
    store_vector(format, at(end - kept + i), inputs.data() + (kernel - kept + i) * bytes);
  }
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
  const float root = std::sqrt(static_cast<float>(heads.key_dim));
  const NormWeights query_norm = to_length(1 / root, heads.key_dim);
  const NormWeights key_norm = to_length(1, heads.key_dim);
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
  step.kernel = static_cast<std::size_t>(sizes.kernel);
  step.convolution = weights.floats(name("conv1d.weight"));
  step.activation = gate_of(builder.recipe().activation);
  step.decay = weights.floats(name("A_log"));
  for (float& x : step.decay) x = std::exp(x);
  step.decay_bias = weights.floats(name("dt_bias"));
  step.norm = builder.norm_weights(name("norm"), Norm::kRms);
  step.format = format;
  builder.product(name("out_proj"), false, Buffer::kAttended, Buffer::kChange);
}

}  // namespace berth

#include "runtime/program/short_convolution.h"

#include "runtime/kernels/delta_rule.h"

namespace berth {

void ShortConvolutionStep::run(Pass& pass) {
  const float* const rows = pass.of(Buffer::kHeads);
  std::vector<std::byte>& kept = memories[pass.sequence];
  float* const window = inputs.begin(pass, kept);
  for_rows(pass, [&](std::size_t row) {
    const float* const b = rows + row * 3 * channels;
    const float* const x = b + 2 * channels;
    float* const own = inputs.own(window, row);
    for (std::size_t i = 0; i < channels; ++i) own[i] = b[i] * x[i];
    inputs.set(window, row);
  });
  float* const out = pass.need(Buffer::kAttended, channels);
  for_rows(pass, [&](std::size_t row) {
    const float* const c = rows + row * 3 * channels + channels;
    float* const own = out + row * channels;
    convolve(weights.data(), window + row * channels, inputs.kernel(), channels, own);
    for (std::size_t i = 0; i < channels; ++i) {
      own[i] = c[i] * (bias.empty() ? own[i] : own[i] + bias[i]);
    }
  });
  inputs.keep(window, pass.rows(), kept);
}

void compile_short_convolution(Builder& builder, const LayerRecipe& layer, CacheFormat format) {
  const ProgramWeights& weights = builder.weights();
  const auto name = [&](std::string_view own) { return layer.module(kConvolutionBlock, own); };
  builder.product(name("in_proj"), false, Buffer::kInput, Buffer::kHeads);
  const auto small = [&](const std::string& tensor) {
    builder.hop(weights.device(tensor), builder.at());
    return weights.floats(tensor);
  };
  std::vector<float> convolution = small(name("conv.weight"));
  std::vector<float> bias;
  if (weights.has(name("conv.bias"))) bias = small(name("conv.bias"));
  auto& step = builder.emit<ShortConvolutionStep>();
  const std::size_t kernel = builder.recipe().convolution_kernel;
  step.channels = convolution.size() / kernel;
  step.inputs = ConvolutionInputs(format, kernel, step.channels);
  step.weights = std::move(convolution);
  step.bias = std::move(bias);
  builder.product(name("out_proj"), false, Buffer::kAttended, Buffer::kChange);
}

}  // namespace berth

// Linear attention by the gated delta rule as a step of a program.
#pragma once

#include <memory>
#include <vector>

#include "runtime/kernels/delta_rule.h"
#include "runtime/program/builder.h"
#include "runtime/program/convolution_inputs.h"

namespace berth {

/// What linear attention keeps of a sequence between two passes.
struct LinearMemory {
  std::vector<std::byte> inputs;  // the last ones of the convolution: [kernel, channels]
  std::vector<float> state;       // [value heads, key_dim, value_dim]

  std::size_t bytes() const { return inputs.size() + state.size() * sizeof(float); }
};

/// kAttended = linear attention of kHeads. A row of kHeads has queries, keys and values of all
/// heads, which the convolution mixes with those of the positions before; then the gates of the
/// result, and for each value head how strongly it is written and how fast it decays: b and a of
/// transformers' GatedDeltaNet. `grouped`: all of this stands together for each key head, b and a
/// behind the rest.
struct LinearAttentionStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "linear attention"; }
  bool by_sequence() const override { return true; }
  void forget(std::size_t sequence) override { memories[sequence] = {}; }
  std::size_t kept_bytes() const override;
  LinearHeads heads;
  bool grouped = false;
  ConvolutionInputs inputs;
  std::vector<float> convolution;             // [channels, kernel]
  Activation activation = Activation::kSilu;  // behind the convolution
  std::vector<float> decay;       // of each value head: a state loses its share decay x softplus(
  std::vector<float> decay_bias;  // a + bias) in the exponent
  NormWeights query_norm, key_norm;
  NormWeights norm;  // of each value head's result, before the gate
  OfEachSequence<LinearMemory> memories;

 private:
  std::size_t channels() const { return 2 * heads.keys() + heads.values(); }
  std::size_t width() const { return channels() + heads.values() + 2 * heads.value_heads; }
  float* ungrouped(Pass& pass) const;
  void convolve_rows(Pass& pass, float* rows);
  void set_strengths(const float* row, float* decays, float* strengths) const;
};

/// Compiles the linear attention of a layer: kChange is made of kInput. The inputs of the
/// convolution are kept in `format`.
void compile_linear_attention(Builder& builder, const LayerRecipe& layer, CacheFormat format);

}  // namespace berth

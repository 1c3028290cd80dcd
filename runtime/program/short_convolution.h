// A short convolution over positions in the place of attention, as a step of a program (LFM2).
#pragma once

#include <vector>

#include "runtime/program/builder.h"
#include "runtime/program/convolution_inputs.h"

namespace berth {

/// kAttended = c x convolution(b x x). A row of kHeads has b, c and x, side by side.
struct ShortConvolutionStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "convolution"; }
  bool by_sequence() const override { return true; }
  void forget(std::size_t sequence) override { memories[sequence].clear(); }
  std::size_t kept_bytes() const override { return bytes_of_all(memories); }
  std::size_t channels = 0;
  std::vector<float> weights;  // [channels, kernel]
  std::vector<float> bias;     // empty: none
  ConvolutionInputs inputs;
  OfEachSequence<std::vector<std::byte>> memories;
};

/// Compiles the convolution of a layer: kChange is made of kInput. Its inputs are kept in `format`.
void compile_short_convolution(Builder& builder, const LayerRecipe& layer, CacheFormat format);

}  // namespace berth

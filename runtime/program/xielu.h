// xIELU, an activation function with two numbers that each layer has learned (Huang and Schlag,
// "Deriving activation functions using integration", arXiv 2411.13010).
#pragma once

#include <string>

#include "runtime/program/builder.h"
#include "runtime/program/steps.h"

namespace berth {

struct Xielu {
  float positive = 0;  // of the square of what is above 0
  float negative = 0;  // of e^x - 1 - x of the rest
  float linear = 0;    // of all
  float least = 0;     // below 0: closer to it, e^x is not computed
  float of(float x) const;
};

/// kGated = xielu(kWide).
struct XieluStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "xielu"; }
  Xielu xielu;
  std::size_t width = 0;
};

/// Emits the step for an activation's module, whose tensors may stand on another device than the
/// activations: they come here.
void compile_xielu(Builder& builder, const std::string& module, std::size_t width);

}  // namespace berth

#include "runtime/program/xielu.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace berth {
namespace {

float softplus(float x) { return std::max(x, 0.0F) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

float Xielu::of(float x) const {
  if (x > 0) return positive * x * x + linear * x;
  return (std::expm1(std::min(x, least)) - x) * negative + linear * x;
}

void XieluStep::run(Pass& pass) {
  const float* const wide = pass.of(Buffer::kWide);
  float* const out = pass.need(Buffer::kGated, width);
  const std::size_t total = pass.rows() * width;
  const std::size_t parts = pass.team.parts(total, 4096);
  const auto own = [&](std::size_t part, std::size_t) {
    for (std::size_t i = total * part / parts; i < total * (part + 1) / parts; ++i) {
      out[i] = xielu.of(wide[i]);
    }
  };
  pass.team.run(parts, std::ref(own));
}

void compile_xielu(Builder& builder, const std::string& module, std::size_t width) {
  const auto number = [&](const char* name) {
    const std::string tensor = module + "." + name;
    builder.hop(builder.weights().device(tensor), builder.at());
    return builder.weights().floats(tensor).at(0);
  };
  Xielu xielu;
  xielu.linear = number("beta");
  xielu.positive = softplus(number("alpha_p"));
  xielu.negative = xielu.linear + softplus(number("alpha_n"));
  xielu.least = number("eps");
  auto& step = builder.emit<XieluStep>();
  step.xielu = xielu;
  step.width = width;
}

}  // namespace berth

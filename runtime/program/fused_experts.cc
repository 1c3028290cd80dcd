#include "runtime/program/fused_experts.h"

#include <algorithm>
#include <utility>

namespace berth {
namespace {

// The products of each expert with one stacked tensor, and its bias if it has one.
struct StackedProducts {
  StackedMatrices stacked;
  std::vector<float> bias;  // [experts, width]
  std::uint64_t bias_hops = 0;

  Products of(std::size_t expert, bool transposed) const {
    ProductPart part;
    part.weights = stacked.matrices[expert];
    if (!bias.empty()) {
      const std::size_t width = bias.size() / stacked.matrices.size();
      const auto begin = bias.begin() + static_cast<std::ptrdiff_t>(expert * width);
      part.bias.assign(begin, begin + static_cast<std::ptrdiff_t>(width));
    }
    std::vector<ProductPart> parts;
    parts.push_back(std::move(part));
    return Products(std::move(parts), transposed);
  }
};

StackedProducts read(const ProgramWeights& weights, const std::string& name) {
  StackedProducts made;
  made.stacked = weights.matrices(name);
  const std::string bias = name + "_bias";
  if (!weights.has(bias)) return made;
  made.bias = weights.floats(bias);
  made.bias_hops = weights.device(bias) != weights.device(name) ? 1 : 0;
  return made;
}

}  // namespace

void add_fused_experts(Builder& builder, const LayerRecipe& layer, DeviceIndex home,
                       ExpertsStep& step) {
  const Recipe& recipe = builder.recipe();
  const MixtureModules& names = recipe.family->mixture;
  const ProgramWeights& weights = builder.weights();
  const std::string in_name = layer.module(names.experts, names.up);
  const std::string out_name = layer.module(names.experts, names.down);
  const StackedProducts in = read(weights, in_name);
  const StackedProducts out = read(weights, out_name);
  const DeviceIndex first = weights.device(in_name);
  const DeviceIndex second = weights.device(out_name);
  const std::uint64_t hops = (home != first ? 1 : 0) + (first != second ? 1 : 0) +
                             (second != home ? 1 : 0) + in.bias_hops + out.bias_hops;
  const bool transposed = names.layout == ExpertLayout::kFusedTransposed;
  for (std::size_t e = 0; e < recipe.routing.experts; ++e) {
    step.experts.push_back({in.of(e, transposed != in.stacked.turned),
                            out.of(e, transposed != out.stacked.turned), hops});
  }
  step.stacks = {in.stacked.stack, out.stacked.stack};
  if (!recipe.clamped) return;
  step.clamped = ClampedGate{static_cast<float>(recipe.clamped->alpha),
                             static_cast<float>(recipe.clamped->limit)};
}

}  // namespace berth

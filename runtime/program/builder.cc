#include "runtime/program/builder.h"

#include "planner/base/join.h"

namespace berth {
namespace {

// "q_proj" of "model.layers.0.self_attn.q_proj".
std::string last_word(const std::string& module) { return module.substr(module.rfind('.') + 1); }

}  // namespace

NormWeights Builder::norm_weights(const std::string& module, Norm kind, std::size_t width) {
  const bool layer = kind == Norm::kLayer || kind == Norm::kLayerPlusOne;
  const bool plus_one = kind == Norm::kRmsPlusOne || kind == Norm::kLayerPlusOne;
  NormWeights norm;
  norm.kind = layer ? NormKind::kLayer : NormKind::kRms;
  norm.epsilon = static_cast<float>(recipe_.norm_eps);
  if (has_norm(module)) {
    norm.weight = weights_.floats(module + ".weight");
  } else {
    norm.weight.assign(width, plus_one ? 0.0F : 1.0F);
  }
  if (layer && weights_.has(module + ".bias")) {
    norm.bias = weights_.floats(module + ".bias");
    hop(weights_.device(module + ".bias"), weights_.device(module + ".weight"));
  } else if (layer) {
    norm.bias.assign(norm.weight.size(), 0.0F);
  }
  if (plus_one) {
    for (float& weight : norm.weight) weight += 1;
  }
  return norm;
}

void Builder::norm(const std::string& module, Buffer from, Buffer to) {
  if (has_norm(module)) at_ = hop(at_, weights_.device(module + ".weight"));
  NormWeights own = norm_weights(module, family_.norms.kind, program_.hidden);
  auto& step = emit<NormStep>();
  step.norm = std::move(own);
  step.from = from;
  step.to = to;
}

ProductPart Builder::part(const std::string& module, std::size_t offset) {
  ProductPart made;
  made.weights = weights_.matrix(module + ".weight");
  made.offset = offset;
  if (weights_.has(module + ".bias")) {
    made.bias = weights_.floats(module + ".bias");
    hop(weights_.device(module + ".bias"), weights_.device(module + ".weight"));
  }
  return made;
}

void Builder::product(const std::string& module, bool transposed, Buffer from, Buffer to) {
  at_ = hop(at_, weights_.device(module + ".weight"));
  ProductPart one = part(module, 0);
  auto& step = emit<ProductStep>();
  step.modules = last_word(module);
  step.width = transposed ? one.weights.columns() : one.weights.rows();
  std::vector<ProductPart> parts;
  parts.push_back(std::move(one));
  step.products = Products(std::move(parts), transposed);
  step.from = from;
  step.to = to;
}

std::size_t Builder::products(const std::vector<std::string>& modules, std::size_t together,
                              Buffer from, Buffer to) {
  std::vector<ProductPart> parts;
  std::size_t width = 0;
  for (const std::string& module : modules) {
    hop(at_, weights_.device(module + ".weight"));
    parts.push_back(part(module, width));
    width += parts.back().weights.rows();
  }
  const DeviceIndex end = weights_.device(modules[together] + ".weight");
  for (const std::string& module : modules) hop(weights_.device(module + ".weight"), end);
  at_ = end;
  auto& step = emit<ProductStep>();
  step.products = Products(std::move(parts));
  step.modules = join(modules, ", ", last_word);
  step.from = from;
  step.to = to;
  step.width = width;
  return width;
}

}  // namespace berth

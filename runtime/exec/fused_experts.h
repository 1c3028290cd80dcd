// Experts whose weights are stored in one tensor for all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/exec/placed.h"
#include "runtime/exec/weights.h"
#include "runtime/program/recipe.h"

namespace berth {

// The experts of a layer. Weights on the disk tier are read once, and dropped with this object.
class FusedExperts {
 public:
  FusedExperts(const Weights& weights, Placement& placement, const Recipe& recipe,
               const LayerRecipe& layer);

  // What one expert makes of `rows`, [rows, width of the stream]. `activate` is the activation
  // function, unless gates are clamped.
  Placed compute(const Placed& rows, std::int64_t expert,
                 const std::function<at::Tensor(const at::Tensor&)>& activate) const;

 private:
  struct Product {
    Placed weight;  // [experts, out, in], or [experts, in, out]
    Placed bias;    // [experts, out]; undefined: none
  };
  Placed read_bias(const Weights& weights, const std::string& name) const;
  Placed multiply(const Placed& x, const Product& product, std::int64_t expert) const;

  Placement& placement_;
  const Recipe& recipe_;
  Product in_;
  Product out_;
};

}  // namespace berth

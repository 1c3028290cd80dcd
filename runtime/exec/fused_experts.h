// Experts whose weights are stored in one tensor for all of them: as plain numbers, or in tiles.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "runtime/exec/placed.h"
#include "runtime/exec/weights.h"
#include "runtime/program/recipe.h"

namespace berth {

// The experts of a layer. Weights on the disk tier are read once, and dropped with this object.
class FusedExperts {
 public:
  // All arguments but `layer` must outlive this object.
  FusedExperts(const Weights& weights, Placement& placement, const Recipe& recipe,
               const LayerRecipe& layer, PackedProducts& products);

  // What one expert makes of `rows`, [rows, width of the stream]. `activate` is the activation
  // function, unless gates are clamped.
  Placed compute(const Placed& rows, std::int64_t expert,
                 const std::function<at::Tensor(const at::Tensor&)>& activate);

 private:
  struct Product {
    at::Tensor weight;     // [experts, out, in], or [experts, in, out]; undefined: it is in tiles
    KernelMatrix tiles;    // of all experts, one under another
    std::size_t rows = 0;  // of an expert in tiles
    Placed bias;           // [experts, out]; undefined: none
    DeviceIndex device = 0;
  };
  Product read(const Weights& weights, const std::string& name, Placed bias) const;
  Placed read_bias(const Weights& weights, const std::string& name) const;
  at::Tensor multiply_plain(const at::Tensor& x, const at::Tensor& weight) const;
  Placed multiply(const Placed& x, const Product& product, std::int64_t expert);

  Placement& placement_;
  const Recipe& recipe_;
  PackedProducts& products_;
  Product in_;
  Product out_;
};

}  // namespace berth

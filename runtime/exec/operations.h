// The operations that models are made of, on placed tensors. Each runs on the device of its weight,
// and moves its input there first. Formulas and roundings are those of transformers' defaults.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "runtime/exec/packed.h"
#include "runtime/exec/placed.h"
#include "runtime/exec/weights.h"
#include "runtime/program/recipe.h"

namespace berth {

// Query, key and value of new positions, each [heads, positions, head size], all on one device.
struct Heads {
  Placed query;
  Placed key;
  Placed value;
  Placed gate;  // of the result: [positions, heads x head size]; undefined where there is none
};

// Modules are given by their full names in the module tree. Activations are [positions, width].
class Operations {
 public:
  Operations(const Weights& weights, Placement& placement, const Recipe& recipe)
      : weights_(weights), placement_(placement), recipe_(recipe), dtype_(weights.activations()) {}

  const Recipe& recipe() const { return recipe_; }
  bool has(const std::string& tensor) const { return weights_.has(tensor); }
  Placed move(const Placed& tensor, DeviceIndex device) { return placement_.move(tensor, device); }
  Placed weight(const std::string& name) const { return weights_.get(name); }
  DeviceIndex device(const std::string& tensor) const { return weights_.device(tensor); }
  // A smaller tensor of a module, brought to `device`: a device map may have put it on another one.
  Placed weight_on(const std::string& name, DeviceIndex device);

  // The rows of an embedding that `ids` name. They are gathered where its weights lie, so only rows
  // go from host memory to a GPU.
  Placed embed(const std::string& weight, std::span<const std::int64_t> ids);
  Placed add(const Placed& left, const Placed& right) const;
  // stream + change times the factor of the family.
  Placed add_change(const Placed& stream, const Placed& change) const;
  // `epsilon`: where it is not the model's.
  Placed norm(const Placed& input, const std::string& module,
              std::optional<double> epsilon = std::nullopt);
  // input x weight^T, plus the bias where the model has one. `transposed`: the weight is [in, out].
  Placed linear(const Placed& input, const std::string& module, bool transposed);

  // Computes query, key and value of a layer.
  Heads project_heads(const LayerRecipe& layer, const Placed& input);
  // Applies a rotary embedding (an index into Recipe::rotaries) to query and key, whose first
  // position is `position` and which are the last of their pass. `capacity` is how many positions
  // there may be in all.
  void rotate(Heads& heads, std::size_t rotary, std::int64_t position, std::int64_t capacity);
  // Normalizes queries and keys once they are rotated, where the layer does that.
  void norm_rotated(const LayerRecipe& layer, Heads& heads);
  // Puts the heads that attention gave side by side again, multiplies them with the sigmoid of
  // `gate` if there is one, and computes the layer's output projection.
  Placed join_heads(const LayerRecipe& layer, const Placed& heads, const Placed& gate);

  Placed feed_forward(const LayerRecipe& layer, const Placed& input);
  at::Tensor activate(const at::Tensor& input) const;

 private:
  struct Angles {
    at::Tensor cosine;  // [positions, rotating dimensions]
    at::Tensor sine;
  };
  Placed normalize(const Placed& input, const std::string& module, double epsilon);
  Placed packed_linear(const Placed& input, const std::string& module);
  Placed split_heads(const Placed& projected) const;
  Heads split_in_order(const Placed& fused) const;
  Heads split_by_key(const Placed& fused) const;
  Placed xielu(const Placed& input, const std::string& module);
  // `heads` is [positions, heads, head size].
  Placed norm_heads(const LayerRecipe& layer, std::string_view name, const Placed& heads);
  Placed gated(const Placed& input, const std::string& gate, const std::string& up,
               const std::string& down);
  struct Picked {
    at::Tensor experts;  // [positions, picked]
    at::Tensor shares;   // likewise
    DeviceIndex device = 0;
  };
  Placed feed_forward(const LayerRecipe& layer, const FeedForwardModules& names,
                      const Placed& input);
  Picked mix_sparsely(const Placed& router) const;
  Picked route(const LayerRecipe& layer, const Placed& input);
  Placed experts(const LayerRecipe& layer, const Placed& input);
  Angles make_angles(const Rotary& rotary, std::int64_t first, std::int64_t count,
                     std::int64_t length, at::Device device) const;
  Angles angles(DeviceIndex device, std::size_t rotary, std::int64_t position, std::int64_t count,
                std::int64_t capacity);

  const Weights& weights_;
  Placement& placement_;
  const Recipe& recipe_;
  at::ScalarType dtype_;  // of all activations, in whatever dtype the weights are
  PackedProducts products_;
  std::map<std::pair<DeviceIndex, std::size_t>, Angles> angles_;  // by device and rotary embedding
};

}  // namespace berth

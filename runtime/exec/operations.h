// The operations that models are made of, on placed tensors: each runs on its weight's device and
// moves its input there first. Formulas and roundings are those of transformers' eager code.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "runtime/exec/family.h"
#include "runtime/exec/placed.h"
#include "runtime/exec/weights.h"

namespace berth {

// Of new positions, [heads, positions, head size] each, all on one device.
struct Heads {
  Placed query;
  Placed key;
  Placed value;
};

// Module names are full names in the tree; activations are [positions, width].
class Operations {
 public:
  Operations(const Weights& weights, Placement& placement, const Recipe& recipe)
      : weights_(weights),
        placement_(placement),
        recipe_(recipe),
        dtype_(weights.dtype(std::string(recipe.family->embedding) + ".weight")) {}

  Placed add(const Placed& left, const Placed& right) const;
  Placed norm(const Placed& input, const std::string& module);
  // input x weight^T + bias (where the model has one); `transposed`: weight is [in, out].
  Placed linear(const Placed& input, const std::string& module, bool transposed);

  Heads project_heads(const std::string& layer, const Placed& input);
  // Rotates query and key, whose first position is `position`.
  void rotate(Heads& heads, std::int64_t position, std::int64_t capacity);
  Placed join_heads(const std::string& layer, const Placed& heads);

  Placed feed_forward(const std::string& layer, const Placed& input);

 private:
  struct Angles {
    at::Tensor cosine;  // [capacity, rotating dimensions]
    at::Tensor sine;
  };
  Placed weight_of(const std::string& name, DeviceIndex device);
  Placed normalize(const Placed& input, const std::string& module);
  Placed split_heads(const Placed& projected, const std::string& head_norm);
  Placed gated(const Placed& input, const std::string& gate, const std::string& up,
               const std::string& down);
  Placed experts(const std::string& layer, const Placed& input);
  at::Tensor activate(const at::Tensor& input) const;
  const Angles& angles(DeviceIndex device, std::int64_t capacity);
  at::Tensor rotated(const at::Tensor& heads, const Angles& angles, std::int64_t position) const;

  const Weights& weights_;
  Placement& placement_;
  const Recipe& recipe_;
  at::ScalarType dtype_;  // of activations: every module gives it, however its weights are stored
  std::unordered_map<DeviceIndex, Angles> angles_;
};

}  // namespace berth

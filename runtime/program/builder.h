// Writes the steps of a program one after another, and keeps account of the device where the
// activations are, so that every step knows how often it moves one to another device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/program/program.h"
#include "runtime/program/recipe.h"
#include "runtime/program/steps.h"
#include "runtime/program/weights.h"

namespace berth {

// Modules are given by their full names in the module tree. What finds a tensor throws Error where
// the model has none of its name.
class Builder {
 public:
  Builder(const Recipe& recipe, const ProgramWeights& weights)
      : recipe_(recipe), family_(*recipe.family), weights_(weights) {}

  const Recipe& recipe() const { return recipe_; }
  const ProgramWeights& weights() const { return weights_; }
  DeviceIndex at() const { return at_; }  // where the activations are

  /// Layers begin one after another; what is emitted before the first is part of none.
  void begin_layer() { ++layer_; }

  /// Appends a step. All hops since the last one are its own.
  template <class Made>
  Made& emit() {
    auto step = std::make_unique<Made>();
    Made& made = *step;
    made.hops = std::exchange(pending_hops_, 0);
    made.layer = in_head_ ? Step::kNoLayer : layer_;
    made.device = at_;
    (in_head_ ? program_.head : program_.body).push_back(std::move(step));
    return made;
  }

  /// An activation, or a small tensor of a module, goes from one device to another. The step that
  /// is emitted next counts it. Returns `to`.
  DeviceIndex hop(DeviceIndex from, DeviceIndex to) {
    if (from != to) ++pending_hops_;
    return to;
  }
  /// What comes next starts from an activation that is on `device`.
  void stand_at(DeviceIndex device) { at_ = device; }
  /// The activations go to `device`.
  void move_to(DeviceIndex device) { at_ = hop(at_, device); }

  /// Whether a norm has weights: some have none, and stand for a norm by itself.
  bool has_norm(const std::string& module) const { return weights_.has(module + ".weight"); }
  /// The weights of a norm of `width` elements, or as many as the model has for it.
  NormWeights norm_weights(const std::string& module, Norm kind, std::size_t width = 0);
  /// to = norm(from), of the width of the stream, on the device of the norm.
  void norm(const std::string& module, Buffer from, Buffer to);

  /// A matrix of a module with its bias, whose products begin at `offset`.
  ProductPart part(const std::string& module, std::size_t offset);
  /// One product; the activations are on its device before and after it.
  void product(const std::string& module, bool transposed, Buffer from, Buffer to);
  /// Products of one input with several modules, side by side. Each result is on the device of its
  /// module, from where it goes to that of modules[together]. Returns their width.
  std::size_t products(const std::vector<std::string>& modules, std::size_t together, Buffer from,
                       Buffer to);

 protected:
  static std::string name_of(std::string_view module) { return std::string(module) + ".weight"; }

  const Recipe& recipe_;
  const Family& family_;
  const ProgramWeights& weights_;
  Program program_;
  bool in_head_ = false;
  std::int32_t layer_ = Step::kNoLayer;
  DeviceIndex at_ = 0;
  std::uint64_t pending_hops_ = 0;
};

}  // namespace berth

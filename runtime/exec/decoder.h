// The forward pass of a decoder model over a plan: each module runs where its weights are, and the
// activation moves when the device changes. Torch-free on the outside.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"
#include "runtime/exec/family.h"

namespace berth {

// Called with the logits of consecutive positions, row by row, whole rows at a time.
using LogitsSink = std::function<void(std::span<const float> rows)>;

class Decoder {
 public:
  // `capacity`: positions of KV cache, allocated with the first pass. The model, plan and loaded
  // weights must outlive the decoder. `cancel` (may be null) is looked at before every layer.
  // Throws Error for weights that are missing or cannot be computed with.
  static std::unique_ptr<Decoder> make(const Recipe& recipe, const Model& model, const Plan& plan,
                                       const LoadedModel& loaded, std::int64_t capacity,
                                       const std::atomic<bool>* cancel);
  virtual ~Decoder() = default;

  virtual std::int64_t logits_width() const = 0;  // rows of the head

  // Runs `ids`, each below the number of the embedding's rows, at the positions after those run
  // before; returns the last one's logits. Where `all` is set, it is given the logits of every
  // position of `ids`, in float32.
  virtual std::vector<float> forward(std::span<const std::int64_t> ids, const LogitsSink& all) = 0;

  // Activations moved between devices in the last pass.
  virtual std::uint64_t hops() const = 0;
};

}  // namespace berth

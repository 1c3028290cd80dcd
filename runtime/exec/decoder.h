// The forward pass of a decoder model over a plan: each module runs where its weights are, and the
// activation moves when the device changes. This header does not include torch.
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

// Called with the logits of consecutive positions: one or more whole rows, each of logits_width()
// numbers.
using OnLogits = std::function<void(std::span<const float> rows)>;

// For use by one thread.
class Decoder {
 public:
  // `capacity` is how many positions the KV cache has, which the first pass allocates. `cancel`
  // (may be null) is looked at before every layer. All arguments but `capacity` must outlive the
  // decoder. Throws Error for weights that are missing or whose dtype cannot be computed with.
  static std::unique_ptr<Decoder> make(const Recipe& recipe, const Model& model, const Plan& plan,
                                       const LoadedModel& loaded, std::int64_t capacity,
                                       const std::atomic<bool>* cancel);
  virtual ~Decoder() = default;

  virtual std::int64_t logits_width()
      const = 0;  // how many logits a position has: the rows of the head

  // Runs the tokens `ids`, each less than the number of rows of the embedding, at the positions
  // that follow those of earlier calls. Returns the logits of the last one, in float32. `all`,
  // where it is not empty, is called with the logits of every position of `ids`. Throws Interrupted
  // when cancelled.
  virtual std::vector<float> forward(std::span<const std::int64_t> ids, const OnLogits& all) = 0;

  // How many times the last pass moved an activation from one device to another.
  virtual std::uint64_t hops() const = 0;
};

}  // namespace berth

// The forward pass of a decoder model over a plan: each module runs where its weights are, and the
// activation moves when the device changes. This header does not include torch.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace berth {

struct Model;
struct Plan;
struct Recipe;
struct StepLog;
class LoadedModel;

// Called with the logits of consecutive positions: one or more whole rows, each of logits_width()
// numbers.
using OnLogits = std::function<void(std::span<const float> rows)>;

// Tokens of one sequence that a pass computes.
struct Feed {
  std::size_t sequence = 0;
  std::span<const std::int64_t> ids;
};

// For use by one thread.
class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual std::int64_t logits_width()
      const = 0;  // how many logits a position has: the rows of the head

  // Runs tokens of some sequences, each sequence at most once and each id less than the number of
  // rows of the embedding, at the positions that follow those of the sequence's earlier ones.
  // Returns the logits of the last token of each, [feeds, logits_width()], in float32; they are the
  // decoder's, and valid until its next call. `all`, where it is not empty, is called with the
  // logits of every token, in their order. Throws Interrupted when cancelled.
  virtual std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) = 0;
  // The same for tokens of the first sequence.
  std::span<const float> forward(std::span<const std::int64_t> ids, const OnLogits& all) {
    const Feed feed{0, ids};
    return forward(std::span(&feed, 1), all);
  }

  // Forgets all tokens of a sequence, so that the next ones are its first again.
  virtual void restart(std::size_t sequence) = 0;

  // How many times the last pass moved an activation from one device to another.
  virtual std::uint64_t hops() const = 0;
};

// Makes a decoder. `capacity` is how many positions the KV cache has; `cancel` (may be null) is
// looked at while computing; `log` (may be null) gets the time of every step. All arguments but
// `capacity` must outlive the decoder. Throws Error for weights that are missing or cannot be
// computed with.
using MakeDecoder = std::unique_ptr<Decoder> (*)(const Recipe& recipe, const Model& model,
                                                 const Plan& plan, const LoadedModel& loaded,
                                                 std::int64_t capacity,
                                                 const std::atomic<bool>* cancel, StepLog* log);

}  // namespace berth

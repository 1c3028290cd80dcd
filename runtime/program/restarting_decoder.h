// Some families compute a whole sequence anew when it grows beyond the length that was trained:
// from there on other rotary frequencies hold, for the positions before as well. transformers does
// so for Phi-3's longrope (prepare_inputs_for_generation in modeling_phi3.py).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/program/decoder.h"

namespace berth {

class RestartingDecoder final : public Decoder {
 public:
  /// Restarts a sequence when it grows beyond `length` positions.
  RestartingDecoder(std::unique_ptr<Decoder> decoder, std::uint64_t length)
      : decoder_(std::move(decoder)), length_(length) {}

  std::int64_t logits_width() const override { return decoder_->logits_width(); }
  std::uint64_t hops() const override { return decoder_->hops(); }
  void restart(std::size_t sequence) override;
  using Decoder::forward;
  /// `all` must be empty where a sequence restarts: it would get the rows of earlier tokens again.
  std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) override;

 private:
  std::unique_ptr<Decoder> decoder_;
  std::uint64_t length_;
  std::vector<std::vector<std::int64_t>> ids_;  // of each sequence, all so far
  std::vector<Feed> sent_;                      // of the call
};

}  // namespace berth

// What the steps of a program work on: the activations of some tokens, row by row.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/kernels/activations.h"
#include "runtime/kernels/team.h"

namespace berth {

/// What a pass works on: [rows, width] each, row by row.
enum class Buffer : std::uint8_t {
  kStream,     // the residual stream
  kInput,      // the stream after a norm
  kHeads,      // query, key and value of each row, side by side
  kAttended,   // what attention gives
  kWide,       // gate and up, side by side
  kGated,      // gate times up
  kChange,     // what is added to the stream
  kRouter,     // scores of experts
  kPicked,     // the rows that one expert computes
  kShared,     // what all rows go through beside their experts
  kShareGate,  // one number a row: how much of kShared counts
  kLatent,     // what latent attention keeps of each row
  kGate,       // of what attention gives
  kLogits,
  kCount
};

/// Consecutive rows of a pass: tokens of one sequence.
struct SequenceRows {
  std::size_t sequence = 0;
  std::size_t position = 0;  // of the first row in the sequence
  std::size_t row = 0;       // the first
  std::size_t rows = 0;
  std::size_t length = 0;  // positions of the sequence, once all that is fed to it now is computed
};

/// One pass: some tokens of some sequences. A step sees all rows of it, or, where it keeps
/// something of each sequence, those of one sequence after the other.
class Pass {
 public:
  explicit Pass(ThreadTeam& threads) : team(threads) {}

  /// Sets the tokens of the pass, and shows all of them. `all` must live until the next call.
  void begin(std::span<const std::int64_t> all) {
    all_ids_ = all;
    show_all();
  }
  void show_all();
  void show(const SequenceRows& rows);

  /// Memory for `width` floats a row. What was in it may be lost.
  float* need(Buffer buffer, std::size_t width);
  /// Memory for `rows` rows that are not those of the pass, for a step's own use.
  float* need(Buffer buffer, std::size_t width, std::size_t rows);
  /// What need() gave for the rows that are shown.
  float* of(Buffer buffer);
  std::size_t rows() const { return ids.size(); }

  ThreadTeam& team;
  std::span<const std::int64_t> ids;  // of the rows that are shown
  std::size_t first = 0;     // position of the first of them, where they are one sequence's
  std::size_t sequence = 0;  // likewise: its number
  std::size_t length = 0;    // likewise: SequenceRows::length
  std::uint64_t hops = 0;
  Activations activations;
  ActivationBits bits = ActivationBits::k24;  // beside packed weights
  // Beside plain weights of BF16: rounded to bf16, unless the model has packed ones, too.
  ActivationBits beside_bf16 = usual_bits(MatrixFormat::kBF16);
  std::vector<float> attention_space;

 private:
  struct Rows {
    std::vector<float> values;
    std::size_t width = 0;
  };

  std::span<const std::int64_t> all_ids_;
  std::size_t begin_ = 0;  // the first row that is shown
  std::array<Rows, static_cast<std::size_t>(Buffer::kCount)> buffers_;
};

/// Something of each sequence that a step keeps from pass to pass.
template <class State>
class OfEachSequence {
 public:
  State& operator[](std::size_t sequence) {
    if (sequence >= states_.size()) states_.resize(sequence + 1);
    return states_[sequence];
  }
  const std::vector<State>& all() const { return states_; }

 private:
  std::vector<State> states_;
};

/// Calls work(row) for each row of the pass, in no order. They are divided among the threads where
/// there are enough of them.
template <class Work>
void for_rows(Pass& pass, const Work& work) {
  const std::size_t rows = pass.rows();
  if (rows < 8) {
    for (std::size_t row = 0; row < rows; ++row) work(row);
    return;
  }
  const std::size_t parts = pass.team.parts(rows, 4);
  const auto own = [&](std::size_t part, std::size_t) {
    for (std::size_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) work(row);
  };
  pass.team.run(parts, std::ref(own));  // a copy would be allocated
}

}  // namespace berth

// The cosines and sines of rotary embedding, position by position, and the turn itself.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/program/rotary.h"

namespace berth {

/// After prepare(), many threads may call turn() at once.
class RotaryAngles {
 public:
  /// For positions below `capacity`. Where the length does not matter, all angles are made here.
  RotaryAngles(Rotary rotary, std::size_t capacity);

  /// True where each pass needs a prepare() of its own.
  bool by_length() const { return rotary_.trained > 0; }
  /// Makes the angles of `count` positions from `first` on, of a pass that ends at `length`, unless
  /// they are there already.
  void prepare(std::size_t first, std::size_t count, std::size_t length);

  double query_scale(std::size_t position) const { return rotary_.query_scale(position); }
  /// Rotates the first dimensions of a head at `position`; the others stay as they are.
  void turn(std::size_t position, float* head) const;

 private:
  // Of a pass that ends at `length`.
  void fill(std::size_t first, std::size_t count, std::size_t length);

  Rotary rotary_;
  std::size_t half_ = 0;   // pairs of dimensions that rotate
  std::size_t first_ = 0;  // position of the first row
  std::size_t count_ = 0;
  std::size_t length_ = 0;
  std::vector<float> cosine_;  // [positions, half]
  std::vector<float> sine_;
};

}  // namespace berth

#include "runtime/program/angles.h"

#include <cmath>
#include <utility>

#include "runtime/kernels/elementwise.h"

namespace berth {

RotaryAngles::RotaryAngles(Rotary rotary, std::size_t capacity)
    : rotary_(std::move(rotary)), half_(rotary_.inverse_frequency.size()) {
  if (!by_length()) fill(0, capacity, capacity);
}

void RotaryAngles::prepare(std::size_t first, std::size_t count, std::size_t length) {
  if (!by_length() || (first == first_ && count == count_ && length == length_)) return;
  fill(first, count, length);
  count_ = count;
  length_ = length;
}

void RotaryAngles::fill(std::size_t first, std::size_t count, std::size_t length) {
  const std::vector<float> frequencies = rotary_.frequencies(length);
  first_ = first;
  cosine_.clear();
  sine_.clear();
  cosine_.reserve(count * half_);
  sine_.reserve(count * half_);
  const auto factor = static_cast<float>(rotary_.scale(length));
  for (std::size_t p = first; p < first + count; ++p) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(p) * frequency;
      cosine_.push_back(std::cos(angle) * factor);
      sine_.push_back(std::sin(angle) * factor);
    }
  }
}

void RotaryAngles::turn(std::size_t position, float* head) const {
  const std::size_t at = (position - first_) * half_;
  const auto rotate_by = rotary_.neighbours ? rotate_neighbours : rotate;
  rotate_by(cosine_.data() + at, sine_.data() + at, half_, head);
}

}  // namespace berth

// Activations in the forms that products read: what stands beside a matrix in a product.
//
// Beside formats with blocks, activations are integers, because processors multiply bytes. 32
// neighbouring ones share a scale; planes of 8 bits make up a value. One plane errs by up to 4e-3
// of the largest value among the 32, two by 1.5e-5, three by 6e-8, which is what float32 does. A
// model multiplies such errors: of SmolLM2's logits, two planes left 1e-4 to 3.5e-4 of the largest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <vector>

#include "runtime/kernels/activation_block.h"
#include "runtime/kernels/choice.h"
#include "runtime/kernels/matrix.h"
#include "runtime/kernels/team.h"

namespace berth {

/// What a model whose weights are all plain computes with beside a format: bf16 beside BF16, and
/// float32, or integers that are as exact, beside all others.
constexpr ActivationBits usual_bits(MatrixFormat format) {
  return format == MatrixFormat::kBF16 ? ActivationBits::k16 : ActivationBits::k24;
}

/// The block of 32 values beside a format, by the formula. Tests compare with it.
ActivationBlock quantize_reference(const float* values, MatrixFormat format, ActivationBits bits);

/// Memory that begins with a cache line: registers are loaded from one line each.
template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kLine));
  }
  void deallocate(T* at, std::size_t) { ::operator delete(at, kLine); }
  bool operator==(const LineAllocator&) const = default;
};

/// The activations of some positions, made ready for products with matrices of one format.
class Activations {
 public:
  /// `values` is [positions, columns], row by row; it is not kept. Columns must be a multiple of
  /// block_elements(format). NaN and infinity make all products of their position NaN. `team`
  /// shares the work of many positions, if it is given.
  void set(std::span<const float> values, std::size_t columns, MatrixFormat format,
           ActivationBits bits, ThreadTeam* team = nullptr);

  std::size_t positions() const { return positions_; }
  std::size_t columns() const { return columns_; }
  ActivationBits bits() const { return bits_; }

  /// Beside formats with blocks.
  const ActivationBlock* blocks(std::size_t position) const {
    return !has_floats_ ? blocks_.data() + position * (columns_ / 32) : nullptr;
  }
  /// Beside formats that take floats: f32, filled up with zeros to padded_columns(). Beside BF16,
  /// in fewer bits than 24, they were rounded to bf16, as transformers' are.
  const float* floats(std::size_t position) const {
    return has_floats_ ? floats_.data() + position * padded_ : nullptr;
  }
  /// Those that were rounded: the same as bf16.
  const std::uint16_t* bf16(std::size_t position) const {
    return has_bf16_ ? bf16_.data() + position * padded_ : nullptr;
  }
  /// The same for AMX, where the instruction set reads them: the pairs of 16 positions side by
  /// side, from a multiple of 16 on, or of as many as are left. Put there by put_in_pairs()
  /// (pairs.h).
  const std::uint16_t* pairs(std::size_t position) const {
    return has_pairs_ ? pairs_.data() + position * padded_ : nullptr;
  }
  /// The same in f32, where the instruction set reads them: of each 32 columns first those with
  /// even numbers, then those with odd ones. Null for a single position.
  const float* split(std::size_t position) const {
    return has_split_ ? split_.data() + position * padded_ : nullptr;
  }
  /// From a position to the next: a multiple of 32, and an odd one, so that the same columns of
  /// neighbouring positions do not compete for the same lines of a cache.
  std::size_t padded_columns() const { return padded_; }

 private:
  void make_floats(const float* row, std::size_t position);

  std::size_t positions_ = 0;
  std::size_t columns_ = 0;
  std::size_t padded_ = 0;
  ActivationBits bits_ = ActivationBits::k16;
  // Which of the following hold those of the last set(); memory stays for the next one.
  bool has_floats_ = true;
  bool has_bf16_ = false;
  bool has_pairs_ = false;
  bool has_split_ = false;
  std::vector<ActivationBlock> blocks_;
  std::vector<float, LineAllocator<float>> floats_;
  std::vector<std::uint16_t, LineAllocator<std::uint16_t>> bf16_;
  std::vector<std::uint16_t, LineAllocator<std::uint16_t>> pairs_;
  std::vector<float, LineAllocator<float>> split_;
};

}  // namespace berth

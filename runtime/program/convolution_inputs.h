// The inputs of a convolution over positions, of which the last ones are kept from pass to pass.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/kernels/attention.h"
#include "runtime/program/pass.h"

namespace berth {

/// A window is [kernel - 1 + rows of the pass, channels]: what is kept of the positions before the
/// pass, and behind that the pass's own. It stands in kGated.
class ConvolutionInputs {
 public:
  ConvolutionInputs() = default;
  /// `kernel`: positions that the convolution sees. They are kept in `format`.
  ConvolutionInputs(CacheFormat format, std::size_t kernel, std::size_t channels)
      : format_(format), kernel_(kernel), channels_(channels) {}

  std::size_t kernel() const { return kernel_; }
  /// The window of the rows that the pass shows, whose own inputs are still to be set. `kept` is
  /// [kernel, channels]; empty: zeros.
  float* begin(Pass& pass, std::vector<std::byte>& kept);
  /// The input of a row of the pass. set() has to follow before it is read.
  float* own(float* window, std::size_t row) const {
    return window + (kernel_ - 1 + row) * channels_;
  }
  /// Rounds a row's input as what is kept, so that it does not matter where a prompt is divided.
  /// Threads may call this for different rows at once.
  void set(float* window, std::size_t row);
  /// Keeps the newest inputs for the next pass.
  void keep(const float* window, std::size_t rows, std::vector<std::byte>& kept) const;

 private:
  CacheFormat format_ = CacheFormat::kF32;
  std::size_t kernel_ = 0;
  std::size_t channels_ = 0;
  std::vector<std::byte> rounded_;  // [rows, channels]
};

}  // namespace berth

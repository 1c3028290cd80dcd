#include "runtime/program/convolution_inputs.h"

#include <algorithm>
#include <span>

namespace berth {

float* ConvolutionInputs::begin(Pass& pass, std::vector<std::byte>& kept) {
  const std::size_t bytes = cache_vector_bytes(format_, channels_);
  float* const window = pass.need(Buffer::kGated, channels_, kernel_ - 1 + pass.rows());
  kept.resize(kernel_ * bytes);
  for (std::size_t i = 0; i + 1 < kernel_; ++i) {
    load_vector(format_, kept.data() + (i + 1) * bytes,
                std::span(window + i * channels_, channels_));
  }
  if (rounded_.size() < pass.rows() * bytes) rounded_.resize(pass.rows() * bytes);
  return window;
}

void ConvolutionInputs::set(float* window, std::size_t row) {
  const std::span input(own(window, row), channels_);
  std::byte* const rounded = rounded_.data() + row * cache_vector_bytes(format_, channels_);
  store_vector(format_, input, rounded);
  load_vector(format_, rounded, input);
}

void ConvolutionInputs::keep(const float* window, std::size_t rows,
                             std::vector<std::byte>& kept) const {
  const std::size_t bytes = cache_vector_bytes(format_, channels_);
  // The window has kernel - 1 positions at least in addition to those of the pass.
  const std::size_t end = kernel_ - 1 + rows;
  const std::size_t count = std::min(kernel_, end);
  for (std::size_t i = 0; i < count; ++i) {
    store_vector(format_, std::span(window + (end - count + i) * channels_, channels_),
                 kept.data() + (kernel_ - count + i) * bytes);
  }
}

}  // namespace berth

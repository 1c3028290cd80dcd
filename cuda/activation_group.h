// Makes 32 activations ready for products with packed matrices, on the host: what a warp does in
// activation_kernel.h.
#pragma once

#include "cuda/packed_loops.h"

namespace berth {

// Of the elements from `first` on.
inline ActivationGroup make_group(const PackedInput& x, std::size_t first) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    const std::uint32_t magnitude = bits_of(float_at(x.data, x.format, first + i)) & 0x7FFFFFFFu;
    largest = magnitude > largest ? magnitude : largest;
  }
  ActivationGroup group{};
  group.scale = group_scale(largest);
  int integers = 0, rests = 0;
  for (int i = 0; i < 32; ++i) {
    const float value = float_at(x.data, x.format, first + static_cast<std::size_t>(i));
    const Planes planes = planes_of(value, group.scale);
    put_planes(planes, i, group);
    integers += planes.integer;
    rests += planes.rest;
  }
  group.total = group_total(group.scale, integers, rests);
  return group;
}

}  // namespace berth

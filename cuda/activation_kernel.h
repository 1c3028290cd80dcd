// The kernel that makes activations ready for products with packed matrices (packed_bits.h), and
// what all kernels of such products have in common. For files that packed_kernels.h speaks of.
#pragma once

#include "cuda/packed_loops.h"

#ifdef __CUDACC__
#define BERTH_UNROLL _Pragma("unroll")
#define BERTH_UNROLL_TWICE _Pragma("unroll 2")
#else
#define BERTH_UNROLL
#define BERTH_UNROLL_TWICE
#endif

namespace berth {
namespace {

constexpr int kWarps = kMostWarpsOfRow;  // of a group of threads
constexpr unsigned kThreads = kWarps * kWarpLanes;

// A warp makes each 32 activations.
__global__ void activation_kernel(PackedInput x, std::size_t groups, ActivationGroup* to) {
  const std::size_t at = static_cast<std::size_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpLanes;
  if (at >= groups) return;  // whole warps, so those that stay are whole too
  const int lane = static_cast<int>(threadIdx.x % kWarpLanes);
  const float value = float_at(x.data, x.format, 32 * at + static_cast<std::size_t>(lane));
  const float scale = group_scale(__reduce_max_sync(~0u, bits_of(value) & 0x7FFFFFFFu));
  const Planes planes = planes_of(value, scale);
  const int integers = __reduce_add_sync(~0u, planes.integer);
  const int rests = __reduce_add_sync(~0u, planes.rest);
  ActivationGroup& group = to[at];
  put_planes(planes, lane, group);
  if (lane == 0) {
    group.scale = scale;
    group.total = group_total(scale, integers, rests);
  }
}

// Groups of threads whose threads loop over what is left: enough to fill any GPU.
constexpr unsigned kMostGroups = 4096;

inline unsigned groups_of_threads(std::size_t units, std::size_t each) {
  return static_cast<unsigned>((units + each - 1) / each);
}

}  // namespace
}  // namespace berth

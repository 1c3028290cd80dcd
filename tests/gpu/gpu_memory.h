// Memory of the first GPU for tests of kernels on it.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "cuda/device.h"
#include "cuda/packed_product.h"

namespace berth::testing {

// Begin SetUp() with begin(): it skips and says why where there is no GPU.
class GpuMemory {
 protected:
  void begin() {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
    ASSERT_TRUE(has_packed_kernels(0)) << "the GPU is older than what is compiled for";
    stream_ = CopyStream(0);
  }

  DeviceArena on_device(const void* data, std::size_t bytes) {
    DeviceArena arena(0, bytes);
    stream_.copy_to_device(arena.data(), data, bytes);
    stream_.synchronize();
    return arena;
  }
  std::vector<std::byte> on_host(const DeviceArena& arena, std::size_t bytes) {
    std::vector<std::byte> host(bytes);
    stream_.copy_to_host(host.data(), arena.data(), bytes);
    stream_.synchronize();
    return host;
  }

  CopyStream stream_;
};

}  // namespace berth::testing

// Products with packed matrices on a GPU, beside a plain read of as much memory. Rates are bytes of
// the matrix per second; matrices are larger than the caches of GPUs. Skips where there is no GPU.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "cuda/device.h"
#include "cuda/packed_product.h"
#include "cuda/read_words.h"

namespace berth {
namespace {

constexpr std::size_t kColumns = 4096;
constexpr std::size_t kRows = 128 << 10;
constexpr int kAtOnce = 10;  // between two waits for the GPU

// Runs `enqueue` over and over. Rates are of `bytes` that each call reads.
template <class Enqueue>
void time_on_gpu(benchmark::State& state, CopyStream& stream, std::size_t bytes,
                 const Enqueue& enqueue) {
  enqueue();
  stream.synchronize();
  for (auto _ : state) {
    for (int i = 0; i < kAtOnce; ++i) enqueue();
    stream.synchronize();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * kAtOnce * state.iterations());
  state.SetLabel(cuda_device_name(0));
}

void BM_PackedProduct(benchmark::State& state, BlockFormat format) {
  if (cuda_device_count() == 0) return state.SkipWithError("no usable GPU on this machine");
  const auto positions = static_cast<std::size_t>(state.range(0));
  const BlockSize block = block_size(format);
  const std::size_t bytes = kRows * kColumns / block.elements * block.bytes;
  const DeviceArena matrix(0, bytes);  // whatever is in it: the time does not depend on that
  const std::vector<float> ones(positions * kColumns, 1);
  const DeviceArena x(0, ones.size() * sizeof(float));
  const DeviceArena workspace(0, packed_workspace_bytes(positions, kColumns));
  const DeviceArena y(0, positions * kRows * sizeof(float));
  CopyStream stream(0);
  stream.copy_to_device(x.data(), ones.data(), ones.size() * sizeof(float));
  time_on_gpu(state, stream, bytes, [&] {
    multiply_packed_on_device({format, kRows, kColumns, matrix.data()},
                              {x.data(), FloatFormat::kF32, positions}, workspace.data(),
                              {y.data(), FloatFormat::kF32}, stream.handle());
  });
}

void BM_ReadGpuMemory(benchmark::State& state) {
  if (cuda_device_count() == 0) return state.SkipWithError("no usable GPU on this machine");
  constexpr std::size_t kBytes = 512u << 20;
  const DeviceArena memory(0, kBytes);
  const DeviceArena result(0, 256);
  CopyStream stream(0);
  time_on_gpu(state, stream, kBytes, [&] {
    xor_words_on_device(memory.data(), kBytes, reinterpret_cast<std::uint32_t*>(result.data()),
                        stream.handle());
  });
}

BENCHMARK(BM_ReadGpuMemory)->UseRealTime();
#define BERTH_PACKED(format)                                          \
  BENCHMARK_CAPTURE(BM_PackedProduct, format, BlockFormat::k##format) \
      ->Arg(1)                                                        \
      ->Arg(2)                                                        \
      ->Arg(4)                                                        \
      ->Arg(8)                                                        \
      ->UseRealTime()
BERTH_PACKED(Q8_0);
BERTH_PACKED(Q4_0);
BERTH_PACKED(Q4_1);
BERTH_PACKED(Q5_0);
BERTH_PACKED(Q5_1);
BERTH_PACKED(Q4_K);
BERTH_PACKED(Q5_K);
BERTH_PACKED(Q6_K);

}  // namespace
}  // namespace berth

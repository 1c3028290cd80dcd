// Compares the host's casts with memcpy. Rates are bytes read and written per second, on 8 MiB, the
// size of a loader's chunk.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/cast.h"

namespace berth {
namespace {

constexpr std::size_t kChunk = 8 << 20;  // bytes of input

void BM_Memcpy(benchmark::State& state) {
  std::vector<std::uint8_t> from(kChunk, 1);
  std::vector<std::uint8_t> to(kChunk);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), kChunk);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * 2 * kChunk));
}
BENCHMARK(BM_Memcpy);

using Cast = void (*)(const void*, FloatFormat, void*, FloatFormat, std::size_t);

void cast_with(benchmark::State& state, Cast cast, FloatFormat from_format, FloatFormat to_format) {
  const std::size_t count = kChunk / float_bytes(from_format);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = 0.001f * static_cast<float>(i % 4001) - 2.0f;
  }
  std::vector<std::uint8_t> from(kChunk);
  std::vector<std::uint8_t> to(count * float_bytes(to_format));
  cast_reference(values.data(), FloatFormat::kF32, from.data(), from_format, count);
  for (auto _ : state) {
    cast(from.data(), from_format, to.data(), to_format, count);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(
      static_cast<std::int64_t>(state.iterations() * (from.size() + to.size())));
}

void BM_Cast(benchmark::State& state, FloatFormat from, FloatFormat to) {
  cast_with(state, cast_on_host, from, to);
}
void BM_CastReference(benchmark::State& state, FloatFormat from, FloatFormat to) {
  cast_with(state, cast_reference, from, to);
}
BENCHMARK_CAPTURE(BM_Cast, bf16_to_f32, FloatFormat::kBF16, FloatFormat::kF32);
BENCHMARK_CAPTURE(BM_Cast, f32_to_bf16, FloatFormat::kF32, FloatFormat::kBF16);
BENCHMARK_CAPTURE(BM_Cast, f16_to_f32, FloatFormat::kF16, FloatFormat::kF32);
BENCHMARK_CAPTURE(BM_Cast, f32_to_f16, FloatFormat::kF32, FloatFormat::kF16);
BENCHMARK_CAPTURE(BM_Cast, bf16_to_f16, FloatFormat::kBF16, FloatFormat::kF16);
BENCHMARK_CAPTURE(BM_Cast, f64_to_f32, FloatFormat::kF64, FloatFormat::kF32);
BENCHMARK_CAPTURE(BM_CastReference, bf16_to_f32, FloatFormat::kBF16, FloatFormat::kF32);
BENCHMARK_CAPTURE(BM_CastReference, f32_to_bf16, FloatFormat::kF32, FloatFormat::kBF16);

}  // namespace
}  // namespace berth

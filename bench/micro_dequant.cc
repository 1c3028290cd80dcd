// Compares the host's dequantisation with memcpy. Rates are bytes read and written per second. The
// input is 8 MiB of packed values, the size of a loader's chunk, of a weight with 4096 inputs; the
// output is bfloat16.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/dequant.h"

namespace berth {
namespace {

constexpr std::uint64_t kChunk = 8 << 20;  // bytes of packed values
constexpr std::uint64_t kColumns = 4096;

void BM_MemcpyChunk(benchmark::State& state) {
  std::vector<std::uint8_t> from(kChunk, 1);
  std::vector<std::uint8_t> to(kChunk);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), kChunk);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * 2 * kChunk));
}
BENCHMARK(BM_MemcpyChunk);

using Dequantize = void (*)(const QuantLayout&, const QuantTables&, const void*, std::uint64_t,
                            std::uint64_t, void*, FloatFormat);

void run(benchmark::State& state, Dequantize dequantize, QuantOrder order, QuantCode code,
         std::uint64_t group, std::uint64_t block_rows) {
  QuantLayout layout;
  layout.order = order;
  layout.code = code;
  layout.columns = layout.row_values = kColumns;
  layout.rows = kChunk * 8 / code_bits(code) / kColumns;
  layout.expert_rows = layout.rows / 2;
  layout.group_columns = group;
  layout.block_rows = block_rows;
  const std::uint64_t groups = kColumns / group;
  const bool turned = order == QuantOrder::kGptq || order == QuantOrder::kAwq;
  layout.row_step = turned ? 1 : groups;
  layout.group_step = turned ? layout.rows : 1;
  layout.arithmetic = turned ? FloatFormat::kF16 : FloatFormat::kF32;
  std::vector<std::uint8_t> from(kChunk);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 37 % 251);
  const std::vector<float> scales(layout.rows * groups, 0.01f);
  const std::vector<float> zeros(scales.size(), 8.0f);
  const std::vector<float> lookup(16, 0.5f);
  const QuantTables tables{scales.data(), turned ? zeros.data() : nullptr, nullptr, lookup.data()};
  std::vector<std::uint16_t> to(layout.rows * kColumns);
  for (auto _ : state) {
    dequantize(layout, tables, from.data(), 0, kChunk, to.data(), FloatFormat::kBF16);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * (kChunk + 2 * to.size())));
}

void BM_Dequantize(benchmark::State& state, QuantOrder order, QuantCode code, std::uint64_t group,
                   std::uint64_t block_rows = 1) {
  run(state, dequantize_on_host, order, code, group, block_rows);
}
void BM_DequantizeReference(benchmark::State& state, QuantOrder order, QuantCode code,
                            std::uint64_t group, std::uint64_t block_rows = 1) {
  run(state, dequantize_reference, order, code, group, block_rows);
}
BENCHMARK_CAPTURE(BM_Dequantize, fp8_blocks, QuantOrder::kRows, QuantCode::kF8E4M3, 128, 128);
BENCHMARK_CAPTURE(BM_Dequantize, fp8_e5m2, QuantOrder::kRows, QuantCode::kF8E5M2, kColumns);
BENCHMARK_CAPTURE(BM_Dequantize, int8, QuantOrder::kRows, QuantCode::kI8, kColumns);
BENCHMARK_CAPTURE(BM_Dequantize, packed4, QuantOrder::kRows, QuantCode::kU4, 32);
BENCHMARK_CAPTURE(BM_Dequantize, nvfp4, QuantOrder::kRows, QuantCode::kF4, 16);
BENCHMARK_CAPTURE(BM_Dequantize, nf4, QuantOrder::kRowsHigh, QuantCode::kLookup4, 64);
BENCHMARK_CAPTURE(BM_Dequantize, gptq4, QuantOrder::kGptq, QuantCode::kU4, 128);
BENCHMARK_CAPTURE(BM_Dequantize, awq, QuantOrder::kAwq, QuantCode::kU4, 128);
BENCHMARK_CAPTURE(BM_Dequantize, mxfp4_experts, QuantOrder::kExperts, QuantCode::kF4, 32);
BENCHMARK_CAPTURE(BM_DequantizeReference, fp8_blocks, QuantOrder::kRows, QuantCode::kF8E4M3, 128,
                  128);
BENCHMARK_CAPTURE(BM_DequantizeReference, gptq4, QuantOrder::kGptq, QuantCode::kU4, 128);
BENCHMARK_CAPTURE(BM_DequantizeReference, mxfp4_experts, QuantOrder::kExperts, QuantCode::kF4, 32);

}  // namespace
}  // namespace berth

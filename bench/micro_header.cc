// Measures the parsing of safetensors headers. 723 tensors are Llama-3.3-70B, 45,395 are
// DeepSeek-V3.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/safetensors/header.h"

namespace berth {
namespace {

// Makes a header of `tensors` matrices, with its eight length bytes. Names are as long as those of
// experts.
std::string make_header(std::uint64_t tensors, std::uint64_t& file_bytes) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  constexpr std::uint64_t kBytes = 2048ull * 7168 * 2;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    json += ",\"model.layers." + std::to_string(i / 800) + ".mlp.experts." + std::to_string(i) +
            ".gate_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[2048,7168],\"data_offsets\":[" +
            std::to_string(i * kBytes) + "," + std::to_string((i + 1) * kBytes) + "]}";
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  std::string head(8, '\0');
  for (int i = 0; i < 8; ++i) head[i] = static_cast<char>(json.size() >> (8 * i) & 0xFF);
  file_bytes = 8 + json.size() + tensors * kBytes;
  return head + json;
}

void BM_ParseHeader(benchmark::State& state) {
  const auto tensors = static_cast<std::uint64_t>(state.range(0));
  std::uint64_t file_bytes = 0;
  const std::string head = make_header(tensors, file_bytes);
  const CheckpointLimits limits;
  for (auto _ : state) {
    std::vector<TensorInfo> out;
    parse_safetensors_header(head, file_bytes, 0, "bench", limits, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * head.size()));
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * tensors));
}
BENCHMARK(BM_ParseHeader)->Arg(723)->Arg(45'395)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace berth

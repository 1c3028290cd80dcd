#include "planner/plan/kv_cache.h"

#include <algorithm>
#include <cctype>

#include "berth/error.h"
#include "planner/base/saturating.h"

namespace berth {
namespace {

// Whole blocks: one element each, but for the block formats.
std::uint64_t bytes_of(std::uint64_t elements, DType dtype) {
  const DTypeBlock block = dtype_block(dtype);
  const std::uint64_t blocks = elements / block.elements + (elements % block.elements > 0 ? 1 : 0);
  return times(blocks, block.bytes);
}

}  // namespace

LayerCache layer_cache(const LayerFacts& layer, const Workload& workload) {
  const DType dtype = workload.kv_dtype.value_or(DType::kF16);
  LayerCache out;
  out.positions = workload.context;
  if (layer.window > 0) out.positions = std::min(out.positions, layer.window);
  out.position_bytes =
      times(times(bytes_of(layer.kv_elements, dtype), out.positions), workload.batch);
  out.constant_bytes = plus(times(bytes_of(layer.cross_elements, dtype), workload.batch),
                            times(layer.state_bytes, workload.batch));
  out.kept_bytes = plus(layer.shares_cache ? 0 : out.position_bytes, out.constant_bytes);
  return out;
}

std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload) {
  return layer_cache(layer, workload).kept_bytes;
}

const std::vector<KvDType>& kv_dtypes() {
  // llama.cpp: kv_cache_types in common/arg.cpp. vLLM: CacheDType in config/cache.py; what it calls
  // "auto" is the dtype of the model.
  static const std::vector<KvDType> all = {
      {DType::kF32, {"float32", "f32"}, "f32", "auto"},
      {DType::kF16, {"float16", "f16"}, "f16", "auto"},
      {DType::kBF16, {"bfloat16", "bf16"}, "bf16", "auto"},
      {DType::kF8E4M3, {"float8_e4m3fn", "fp8", "fp8_e4m3"}, "", "fp8"},
      {DType::kF8E5M2, {"float8_e5m2", "fp8_e5m2"}, "", "fp8_e5m2"},
      {DType::kI8, {"int8"}, "", ""},
      {DType::kQ8_0, {"q8_0"}, "q8_0", ""},
      {DType::kQ5_1, {"q5_1"}, "q5_1", ""},
      {DType::kQ5_0, {"q5_0"}, "q5_0", ""},
      {DType::kQ4_1, {"q4_1"}, "q4_1", ""},
      {DType::kQ4_0, {"q4_0"}, "q4_0", ""},
      {DType::kIQ4_NL, {"iq4_nl"}, "iq4_nl", ""},
  };
  return all;
}

const KvDType* find_kv_dtype(DType dtype) {
  const auto found = std::ranges::find(kv_dtypes(), dtype, &KvDType::dtype);
  return found == kv_dtypes().end() ? nullptr : &*found;
}

std::string kv_dtype_name(DType dtype) {
  const KvDType* row = find_kv_dtype(dtype);
  return std::string(row == nullptr ? dtype_name(dtype) : row->names.front());
}

std::optional<DType> parse_kv_dtype(std::string_view name) {
  for (const KvDType& row : kv_dtypes()) {
    if (std::ranges::find(row.names, name) != row.names.end()) return row.dtype;
  }
  return std::nullopt;
}

void require_whole_blocks(const ModelTree& tree, DType kv_dtype) {
  const std::uint64_t block = dtype_block(kv_dtype).elements;
  if (!is_block_format(kv_dtype)) return;
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i) {
    const LayerFacts& layer = tree.facts.layers[i];
    const std::uint64_t size = layer.head_size > 0 ? layer.head_size : layer.kv_elements;
    if (size % block == 0) continue;
    const std::string what = layer.head_size > 0 ? "a head" : "a position";
    throw Error(tree.name + ": a KV cache of " + kv_dtype_name(kv_dtype) + " holds blocks of " +
                std::to_string(block) + " values, and " + what + " of layer " + std::to_string(i) +
                " has " + std::to_string(size) +
                ": llama.cpp makes no such cache (float16 and fp8 have no blocks)");
  }
}

}  // namespace berth

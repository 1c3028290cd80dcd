// What the layers of a model keep of the sequences between two tokens. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// What one layer keeps and reads for all sequences of a workload. Figures that are far too large
// saturate instead of wrapping around.
struct LayerCache {
  std::uint64_t positions = 0;       // of each sequence: the context, or the window if smaller
  std::uint64_t position_bytes = 0;  // of all `positions`: what a token reads at the end of them
  std::uint64_t constant_bytes = 0;  // whatever the context: cross attention and constant states
  std::uint64_t kept_bytes = 0;      // what the layer takes of its device's memory
};

LayerCache layer_cache(const LayerFacts& layer, const Workload& workload);

// Bytes of KV cache that one layer needs for the workload, constant states included:
// (kv_elements x min(context, window) + cross_elements) x batch x bytes an element
// + state_bytes x batch, without the first term for a layer that shares the cache of another.
// In a block format the elements of each position take whole blocks. States keep their own dtype.
std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload);

// A dtype that a KV cache can have, by the names that tools give it.
struct KvDType {
  DType dtype;
  // The first is Berth's own: torch's where torch has the type, else llama.cpp's.
  std::vector<std::string_view> names;
  std::string_view llama_cpp;  // what its -ctk and -ctv call it; empty: it has no such type
  std::string_view vllm;       // what vLLM's --kv-cache-dtype calls it; the same
};
const std::vector<KvDType>& kv_dtypes();

// The row of a dtype; null for one that no KV cache has.
const KvDType* find_kv_dtype(DType dtype);
// "float16", "q8_0": Berth's own name; that of the dtype for one without a row.
std::string kv_dtype_name(DType dtype);
std::optional<DType> parse_kv_dtype(std::string_view name);  // by any of its names

// Throws Error, naming the dtype, where it stores blocks that would cut the heads of a layer:
// llama.cpp, whose formats these are, makes no such cache ("K cache type q8_0 with block size 32
// does not divide n_embd_head_k").
void require_whole_blocks(const ModelTree& tree, DType kv_dtype);

}  // namespace berth

// The tensors of a GGUF model by layer. Internal to planner/model/gguf.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"

namespace berth {

// "blk.3.attn_q.weight" is layer 3 of the list "blk", the module "attn_q" and the leaf "weight".
struct GgufPlace {
  std::string_view list;    // "blk", "dec.blk", "v.blk"; empty outside layers
  std::uint64_t layer = 0;  // of the list
  std::string_view module;  // below the layer, or the whole name without its leaf
};

// Where a tensor belongs by its name. A list is what ends in "blk" before a number.
GgufPlace gguf_place(std::string_view name);

// True for tensors that hold the routed experts of a layer, all in one: "ffn_up_exps".
bool is_gguf_experts(std::string_view module);

// The modules of one layer, each with its weight, or its first tensor where it has none.
class GgufLayerTensors {
 public:
  void add(std::string_view module, const TensorInfo& tensor);

  bool empty() const { return by_module_.empty(); }
  bool has(std::string_view module) const { return by_module_.contains(module); }
  bool has_any(std::initializer_list<std::string_view> modules) const;
  bool has_prefix(std::string_view prefix) const;
  // The rows of a module's matrix (its outputs); 0 where it has none.
  std::uint64_t rows(std::string_view module) const;
  // The tensor of a module; null where there is none.
  const TensorInfo* find(std::string_view module) const;
  // How many routed experts the layer holds, by its tensors; 0: it is dense.
  std::uint64_t experts() const;

 private:
  std::map<std::string_view, const TensorInfo*> by_module_;
};

// By layer, those of the list `list` ("blk"). As many as its highest number says.
std::vector<GgufLayerTensors> gguf_layer_tensors(const std::vector<TensorInfo>& tensors,
                                                 std::string_view list);

}  // namespace berth

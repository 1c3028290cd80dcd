#include "planner/plan/needs.h"

#include <algorithm>

#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// How many parameters `tensor` adds: none for buffers and for tensors tied to one that is counted.
// A quantised tensor holds more parameters than its stored bytes have elements.
std::uint64_t parameters_of(const ModelTensor& tensor) {
  return tensor.buffer || tensor.tied_to != kNone ? 0 : tensor.elements();
}

// By module: how many parameters are in it and below it.
std::vector<std::uint64_t> parameters_by_module(const ModelTree& tree) {
  std::vector<std::uint64_t> sums(tree.modules.size(), 0);
  for (const ModelTensor& tensor : tree.tensors) sums[tensor.module] += parameters_of(tensor);
  for (ModuleId m = static_cast<ModuleId>(sums.size()); m-- > 1;) {  // parents come first
    sums[tree.modules[m].parent] += sums[m];
  }
  return sums;
}

// The parameters of the largest layer, by Accelerate's get_max_layer_size(): a module that may be
// split is not a layer itself; its children and each of its own tensors are.
std::uint64_t largest_layer(const ModelTree& tree, const std::vector<std::uint64_t>& sums) {
  std::uint64_t largest = 0;
  std::vector<bool> looked_into(tree.modules.size(), false);
  for (ModuleId m = 0; m < tree.modules.size(); ++m) {
    const Module& module = tree.modules[m];
    if (m != 0 && !looked_into[module.parent]) continue;
    if (m != 0 && (module.no_split || module.children.empty())) {
      largest = std::max(largest, sums[m]);
      continue;
    }
    looked_into[m] = true;
    for (const TensorId t : module.tensors) {
      largest = std::max(largest, parameters_of(tree.tensors[t]));
    }
  }
  return largest;
}

// Bytes that one sequence of 1,000 tokens takes in the KV cache.
std::uint64_t kv_of_1000_tokens(const ModelTree& tree, unsigned bits) {
  Workload workload;
  workload.context = 1000;
  workload.batch = 1;
  workload.kv_dtype = bits == 32 ? DType::kF32 : DType::kF16;
  std::uint64_t bytes = 0;
  for (const LayerFacts& layer : tree.facts.layers) bytes += kv_cache_bytes(layer, workload);
  return bytes;
}

// Bytes of `count` elements of `bits` bits, rounded up. Does not overflow as long as the result
// fits 64 bits.
std::uint64_t bytes_of(std::uint64_t count, unsigned bits) {
  return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

}  // namespace

std::vector<Need> model_needs(const ModelTree& tree) {
  const std::vector<std::uint64_t> sums = parameters_by_module(tree);
  const std::uint64_t largest = largest_layer(tree, sums);
  const std::uint64_t total = sums.empty() ? 0 : sums[0];
  std::vector<Need> needs{{"float32", 32, 0, 0, 0, 32},
                          {"bfloat16", 16, 0, 0, 0, 16},
                          {"int8", 8, 0, 0, 0, 16},
                          {"4-bit", 4, 0, 0, 0, 16}};
  for (Need& need : needs) {
    need.largest_layer = bytes_of(largest, need.bits);
    need.total = bytes_of(total, need.bits);
    need.kv_per_1000_tokens = kv_of_1000_tokens(tree, need.kv_bits);
  }
  return needs;
}

}  // namespace berth

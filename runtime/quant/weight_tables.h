// What stands beside the packed values of a quantised weight, made ready for the kernels: its
// layout, and its scales, zero points and input order as tables of 32-bit numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "cuda/dequant.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/memory.h"

namespace berth {

// A weight that is dequantised as it is loaded.
struct PackedWeight {
  TensorId tensor = kNone;
  std::uint32_t source = kNone;  // index into Checkpoint::tensors: the packed values
  Dequantization made;
  QuantLayout layout;
  std::uint32_t uses = 0;  // segments of the schedule that are part of it
};

// How the kernels see `tensor`, a dequantised one of `tree`, whose packed values are `source` of
// `checkpoint`. Throws Error naming it where there is no kernel for it.
QuantLayout quant_layout(const ModelTree& tree, TensorId tensor, std::uint32_t source,
                         const Checkpoint& checkpoint);

// Reads [begin, end) of a shard to `at_begin`. Memory down to the block below and up to the block
// above may be written, and file offset 0 stands at a multiple of kBlock.
using ReadRange = std::function<void(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                                     std::byte* at_begin)>;

// Immutable once made; may be used from many threads.
class WeightTables {
 public:
  // Reads the parts, each once. Throws Error naming the tensor for values that make no sense.
  WeightTables(const Checkpoint& checkpoint, const PackedWeight& weight, const QuantScheme& scheme,
               const ReadRange& read);

  const QuantLayout& layout() const { return layout_; }
  std::span<const std::byte> bytes() const { return {memory_.data(), bytes_}; }
  // The tables where a copy of bytes() stands.
  QuantTables at(const std::byte* base) const;
  QuantTables on_host() const { return at(memory_.data()); }

 private:
  QuantLayout layout_;
  HostArena memory_;
  std::uint64_t bytes_ = 0;
  // Offsets into the memory; kAbsent: there is no such table.
  static constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::uint64_t scales_ = kAbsent;
  std::uint64_t zeros_ = kAbsent;
  std::uint64_t groups_ = kAbsent;
  std::uint64_t lookup_ = kAbsent;
};

}  // namespace berth

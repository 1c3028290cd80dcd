// What the kernels need to know about a quantised weight besides its packed values: how those are
// laid out, and its scales, zero points and order of inputs as tables of 32-bit numbers.
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
  std::uint32_t source = kNone;  // the packed values: index into Checkpoint::tensors
  Dequantization made;
  QuantLayout layout;
  std::uint32_t uses = 0;  // how many segments of the schedule are made of its packed values
};

// The layout by which the kernels dequantise `tensor` of `tree`, whose packed values are tensor
// `source` of `checkpoint`. Throws Error naming the tensor where there is no kernel for its format.
QuantLayout quant_layout(const ModelTree& tree, TensorId tensor, std::uint32_t source,
                         const Checkpoint& checkpoint);

// Reads bytes [begin, end) of a shard to `at_begin`, which is as far above a multiple of kBlock as
// `begin` is. Memory down to the block boundary below and up to the one above may be written, too.
using ReadRange = std::function<void(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                                     std::byte* at_begin)>;

// The tables of one weight, in host memory. Immutable once made, so many threads may use them.
class WeightTables {
 public:
  // Reads each part of the weight once, with `read`. Throws Error naming the part where it is
  // missing, too small or holds values that no weight can have.
  WeightTables(const Checkpoint& checkpoint, const PackedWeight& weight, const QuantScheme& scheme,
               const ReadRange& read);

  const QuantLayout& layout() const { return layout_; }
  // All tables, one after another: what to copy to a GPU.
  std::span<const std::byte> bytes() const { return {memory_.data(), bytes_}; }
  // Pointers to the tables within a copy of bytes() that begins at `base`.
  QuantTables at(const std::byte* base) const;
  QuantTables on_host() const { return at(memory_.data()); }

 private:
  QuantLayout layout_;
  HostArena memory_;
  std::uint64_t bytes_ = 0;
  // Offsets of the tables in memory_, in bytes; kAbsent where there is no such table.
  static constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::uint64_t scales_ = kAbsent;
  std::uint64_t zeros_ = kAbsent;
  std::uint64_t groups_ = kAbsent;
  std::uint64_t lookup_ = kAbsent;
};

}  // namespace berth

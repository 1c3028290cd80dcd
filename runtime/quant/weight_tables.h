// What the kernels need to know about a quantised weight besides its packed values: how those are
// laid out, and its scales, zero points and order of inputs as tables of 32-bit numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "cuda/dequant.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/memory.h"
#include "runtime/quant/read_part.h"
#include "runtime/quant/zero_points.h"

namespace berth {

// A weight that is dequantised as it is loaded.
struct PackedWeight {
  TensorId tensor = kNone;
  std::uint32_t source = kNone;  // the packed values: index into Checkpoint::tensors
  Dequantization made;
  QuantLayout layout;
  std::uint32_t uses = 0;  // how many segments of the schedule are made of its packed values
};

// The tables of one weight, in host memory. They do not change once made, so many threads may use
// them.
class WeightTables {
 public:
  // Reads each part of the weight once, with `read`. Throws Error naming the part where it is
  // missing, too small or holds values that no weight can have.
  WeightTables(const Checkpoint& checkpoint, const PackedWeight& weight, const QuantScheme& scheme,
               const ReadRange& read);

  const QuantLayout& layout() const { return layout_; }
  // What was found out about the zero points; kAsSaid where there are none.
  ZeroPointFinding zero_points() const { return zero_points_; }
  // All tables, one after another: what to copy to a GPU.
  std::span<const std::byte> bytes() const { return {memory_.data(), bytes_}; }
  // Pointers to the tables within a copy of bytes() that begins at `base`.
  QuantTables at(const std::byte* base) const;
  QuantTables on_host() const { return at(memory_.data()); }
  // For whoever makes tiles of the weight on several threads (tile_packed()).
  std::mutex& seams() const { return seams_; }

 private:
  QuantLayout layout_;
  ZeroPointFinding zero_points_ = ZeroPointFinding::kAsSaid;
  HostArena memory_;
  std::uint64_t bytes_ = 0;
  mutable std::mutex seams_;
  // Offsets of the tables in memory_, in bytes; kAbsent where there is no such table.
  static constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
  std::uint64_t scales_ = kAbsent;
  std::uint64_t zeros_ = kAbsent;
  std::uint64_t groups_ = kAbsent;
  std::uint64_t lookup_ = kAbsent;
};

}  // namespace berth

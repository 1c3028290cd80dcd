// Where staged bytes go: the memory of one device of the plan, and the way into it.
//
// Two implementations: a CUDA device (copies and casts on a stream of its own), and host memory
// (the CPU itself, and devices that are emulated), which copies before it returns. Everything up to
// the copy call is the same for all. Safe for use from many threads; a slot belongs to one at a
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "berth/checkpoint.h"
#include "cuda/cast.h"

namespace berth {

class WeightTables;

// `bytes` bytes of `stored` elements at `from` become `dtype` elements `to` bytes into the memory.
// Where `form` reorders, they are those `at` bytes into a stored tensor whose memory is at `to`.
// With `tables` they are those `at` bytes into the packed values of a quantised weight, which
// begins at `to`.
struct CopyJob {
  const std::byte* from = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t to = 0;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  const StoredForm* form = nullptr;
  std::uint64_t at = 0;
  const WeightTables* tables = nullptr;

  bool reorders() const { return form != nullptr && form->reorders(); }
  bool as_it_is() const { return stored == dtype && !reorders() && tables == nullptr; }
};

class DeviceSink {
 public:
  virtual ~DeviceSink() = default;

  // The device's memory; a host address only for host sinks.
  virtual std::byte* memory() const = 0;
  // Keeps memory() alive after the sink is gone.
  virtual std::shared_ptr<void> memory_owner() const = 0;

  // Starts the copies out of staging slot `slot`, whose bytes must stay until wait(slot) returns.
  // Tables may go as soon as it returns.
  virtual void copy(std::span<const CopyJob> jobs, std::uint32_t slot) = 0;
  // No more jobs with these tables will come.
  virtual void forget(const WeightTables*) {}
  virtual bool done(std::uint32_t slot) = 0;
  virtual void wait(std::uint32_t slot) = 0;
  // Waits for all copies; throws Error if one failed.
  virtual void finish() = 0;
  // The same on the way out of an error.
  virtual void drain() noexcept = 0;
};

// Host memory of `bytes` bytes for `device`.
std::unique_ptr<DeviceSink> make_host_sink(const std::string& device, std::uint64_t bytes);

// What jobs need on a GPU besides the memory they end in.
struct SinkNeeds {
  bool raw = false;        // bytes as stored: for all that is not copied as it is
  bool converted = false;  // parts that are both converted and reordered
};

// `bytes` of memory of CUDA device `ordinal`; events for `slots` slots; scratch for raw segments of
// up to `slot_bytes`, as needed. Throws Error where the device cannot give that much. Tables of
// quantised weights get memory of their own as they come.
std::unique_ptr<DeviceSink> make_cuda_sink(int ordinal, std::uint64_t bytes, std::uint32_t slots,
                                           std::uint64_t slot_bytes, SinkNeeds needs);

// One job on the host: memcpy, a cast or a dequantisation, the first two also in another order.
// `to` is where the first element goes, or the tensor where it is reordered or dequantised.
void copy_on_host(const CopyJob& job, std::byte* to);

// Takes away the one that `form` says stored F32 values have too much, in place; any alignment.
void take_away_one(std::byte* values, std::uint64_t bytes);

}  // namespace berth

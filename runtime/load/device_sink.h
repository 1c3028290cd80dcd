// Where staged bytes go: a sink is the memory of one device of the plan, and the way into it.
//
// Two sinks are made here: a CUDA device, which copies and casts on a stream of its own, and host
// memory (for the CPU and for devices that are emulated), which has copied when copy() returns; the
// sink of the disk is in offload.h. Up to the call of copy() everything is the same for all. Sinks
// are safe for use from many threads; a staging slot belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "berth/checkpoint.h"
#include "cuda/cast.h"
#include "runtime/kernels/matrix.h"

namespace berth {

class WeightTables;

// One copy into a sink's memory: `bytes` bytes of whole `stored` elements at `from` become elements
// of `dtype`, `to` bytes from the beginning of that memory. Where `form` reorders, or `tables` or a
// `matrix` are given, the bytes are a stretch of a stored tensor, and `to` is where the whole
// tensor begins.
struct CopyJob {
  const std::byte* from = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t to = 0;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  const StoredForm* form = nullptr;  // null: the elements stay in their order
  std::uint64_t at = 0;              // offset of `from` in the stored tensor, in bytes
  // Where the bytes are packed values: the tables of the weight. If `dtype` is a format with
  // blocks, its tiles are made; the memory must be zero before.
  const WeightTables* tables = nullptr;
  const MatrixShape* matrix = nullptr;  // where they are to be tiled; for host memory only

  bool reorders() const { return form != nullptr && form->reorders(); }
  // Whether the bytes are only copied.
  bool as_it_is() const {
    return stored == dtype && !reorders() && tables == nullptr && matrix == nullptr;
  }
};

// The functions throw Error where the device fails, except drain().
class DeviceSink {
 public:
  virtual ~DeviceSink() = default;

  // Where the device's memory begins. The host may use this address only for sinks of host memory.
  virtual std::byte* memory() const = 0;
  // Keeps memory() alive after the sink is gone.
  virtual std::shared_ptr<void> memory_owner() const = 0;

  // Starts the copies of `jobs`, whose bytes are in staging slot `slot` and must stay as they are
  // until wait(slot) returns. Tables of the jobs are needed only until copy() returns.
  virtual void copy(std::span<const CopyJob> jobs, std::uint32_t slot) = 0;
  // Says that no more jobs with these tables will come, so that a copy of them can be freed.
  virtual void forget(const WeightTables*) {}
  // Whether all copies out of `slot` are done; wait() waits until they are.
  virtual bool done(std::uint32_t slot) = 0;
  virtual void wait(std::uint32_t slot) = 0;
  // Waits for all copies. Throws Error where one of them failed.
  virtual void finish() = 0;
  // Waits for all copies, on the way out of an error: whether they failed no longer matters.
  virtual void drain() noexcept = 0;
};

// A sink with `bytes` bytes of host memory for the device called `device`, of NUMA node `node`
// where that is not -1 and the kernel agrees. Throws Error where memory is short.
std::unique_ptr<DeviceSink> make_host_sink(const std::string& device, std::uint64_t bytes,
                                           int node = -1);

// What the jobs need on a GPU, besides the memory that they write to.
struct SinkNeeds {
  bool raw = false;        // scratch memory for bytes as stored: some job does not only copy
  bool converted = false;  // and between the two steps of jobs that both convert and reorder
  bool zeros = false;      // that memory is zero before: some job makes tiles of packed values
};

// A sink with `bytes` bytes of memory of CUDA device `ordinal`, events for `slots` staging slots,
// and scratch memory according to `needs`, for segments of up to `slot_bytes` bytes. Throws Error
// where the device cannot give that much. Tables of quantised weights get memory of their own as
// they come.
std::unique_ptr<DeviceSink> make_cuda_sink(int ordinal, std::uint64_t bytes, std::uint32_t slots,
                                           std::uint64_t slot_bytes, SinkNeeds needs);

// Sinks whose memory is that of somebody else, who keeps it: `base` is the address that `to` of
// jobs counts from. In host memory, and of CUDA device `ordinal`, where copies begin when the
// streams `before` have done what they have got by now (null: the default stream).
std::unique_ptr<DeviceSink> make_address_sink(std::byte* base);
std::unique_ptr<DeviceSink> make_cuda_sink_at(int ordinal, std::byte* base,
                                              std::span<const CudaStreamHandle> before,
                                              std::uint32_t slots, std::uint64_t slot_bytes,
                                              SinkNeeds needs);

// Does one job on the host: a memcpy, a cast, a tiling or a dequantisation, all but the last also
// with elements put in another order. `to` is where the first element goes; of a job that reorders,
// tiles or dequantises it is where the whole tensor begins. job.to is not looked at.
void copy_on_host(const CopyJob& job, std::byte* to);

// Subtracts 1 from each of the F32 values in `bytes` bytes at `values`, in place: for tensors that
// a file stores plus one (StoredForm::plus_one). Any alignment will do.
void subtract_one(std::byte* values, std::uint64_t bytes);

}  // namespace berth

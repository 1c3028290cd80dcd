#include "runtime/stream/copy_engine.h"

#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "cuda/device.h"
#include "runtime/stream/memory.h"

namespace berth {
namespace {

FloatFormat float_format(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return FloatFormat::kBF16;
    case DType::kF16:
      return FloatFormat::kF16;
    case DType::kF32:
      return FloatFormat::kF32;
    case DType::kF64:
      return FloatFormat::kF64;
    default:
      throw Error("cannot convert " + std::string(dtype_name(dtype)));
  }
}

class HostEngine final : public CopyEngine {
 public:
  explicit HostEngine(HostArena arena) : arena_(std::make_shared<HostArena>(std::move(arena))) {}

  std::byte* memory() const override { return arena_->data(); }
  std::shared_ptr<void> memory_owner() const override { return arena_; }
  void copy(std::span<const CopyJob> jobs, std::uint32_t) override {
    for (const CopyJob& job : jobs) copy_on_host(job, arena_->data() + job.to);
  }
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  std::shared_ptr<HostArena> arena_;
};

class CudaEngine final : public CopyEngine {
 public:
  CudaEngine(int ordinal, std::uint64_t bytes, std::uint32_t slots, std::uint64_t slot_bytes,
             bool casts)
      : arena_(std::make_shared<DeviceArena>(ordinal, bytes)),
        scratch_(ordinal, casts ? slot_bytes : 0),
        stream_(ordinal) {
    events_.reserve(slots);
    for (std::uint32_t i = 0; i < slots; ++i) events_.emplace_back(ordinal);
  }

  std::byte* memory() const override { return arena_->data(); }
  std::shared_ptr<void> memory_owner() const override { return arena_; }

  // The stream keeps order, so one scratch is enough: a copy into it waits for the cast out of it.
  // The lock keeps the two of one job together.
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    const std::scoped_lock lock(mutex_);
    std::vector<CopyStream::Copy> plain;
    for (const CopyJob& job : jobs) {
      if (job.stored != job.dtype) continue;
      plain.push_back({arena_->data() + job.to, job.from, job.bytes});
    }
    stream_.copy_to_device(plain);
    for (const CopyJob& job : jobs) {
      if (job.stored == job.dtype) continue;
      std::byte* to = arena_->data() + job.to;
      const FloatFormat stored = float_format(job.stored);
      stream_.copy_to_device(scratch_.data(), job.from, job.bytes);
      stream_.cast(scratch_.data(), stored, to, float_format(job.dtype),
                   job.bytes / float_bytes(stored));
    }
    stream_.record(events_[slot]);
  }

  bool done(std::uint32_t slot) override { return events_[slot].done(); }
  void wait(std::uint32_t slot) override { events_[slot].wait(); }
  void finish() override { stream_.synchronize(); }
  void drain() noexcept override { stream_.drain(); }

 private:
  std::shared_ptr<DeviceArena> arena_;
  DeviceArena scratch_;
  std::vector<CopyEvent> events_;
  CopyStream stream_;  // destroyed first: waits for what uses the members above
  std::mutex mutex_;   // guards the stream's order
};

}  // namespace

void copy_on_host(const CopyJob& job, std::byte* to) {
  if (job.stored == job.dtype) {
    std::memcpy(to, job.from, job.bytes);
    return;
  }
  const FloatFormat stored = float_format(job.stored);
  cast_on_host(job.from, stored, to, float_format(job.dtype), job.bytes / float_bytes(stored));
}

std::unique_ptr<CopyEngine> make_host_engine(const std::string& device, std::uint64_t bytes) {
  return std::make_unique<HostEngine>(HostArena(bytes, "device " + device));
}

std::unique_ptr<CopyEngine> make_cuda_engine(int ordinal, std::uint64_t bytes, std::uint32_t slots,
                                             std::uint64_t slot_bytes, bool casts) {
  return std::make_unique<CudaEngine>(ordinal, bytes, slots, slot_bytes, casts);
}

}  // namespace berth

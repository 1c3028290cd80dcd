// Devices around another one, for tests that change what a device does.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "berth/error.h"
#include "runtime/load/device_sink.h"

namespace berth::testing {

// Passes everything on to `inner`.
class PassingDevice : public DeviceSink {
 public:
  explicit PassingDevice(std::unique_ptr<DeviceSink> inner) : inner_(std::move(inner)) {}
  std::byte* memory() const override { return inner_->memory(); }
  std::shared_ptr<void> memory_owner() const override { return inner_->memory_owner(); }
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    inner_->copy(jobs, slot);
  }
  bool done(std::uint32_t slot) override { return inner_->done(slot); }
  void wait(std::uint32_t slot) override { inner_->wait(slot); }
  void finish() override { inner_->finish(); }
  void drain() noexcept override { inner_->drain(); }

 private:
  std::unique_ptr<DeviceSink> inner_;
};

// Fails at the copy after so many.
class FailingDevice final : public PassingDevice {
 public:
  FailingDevice(std::unique_ptr<DeviceSink> inner, int after)
      : PassingDevice(std::move(inner)), left_(after) {}
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    if (--left_ < 0) throw Error("copying to device 0: an illegal memory access was encountered");
    PassingDevice::copy(jobs, slot);
  }

 private:
  std::atomic<int> left_;
};

}  // namespace berth::testing

// GPUs as the loader needs them: memory, copies that run beside the CPU, and events.
//
// Plain C++: no CUDA header is needed to use it, and it links without a GPU or driver; then
// cuda_device_count() is 0 and everything else throws Error. A build without the CUDA toolkit
// (BERTH_CUDA=OFF) answers the same way. Objects may be moved, and used by one thread at a time.
// Functions that act on a device select it for the calling thread first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "cuda/cast.h"
#include "cuda/dequant.h"

namespace berth {

// Number of usable GPUs; 0 without a driver. Makes no context. Unless CUDA_DEVICE_ORDER is set, the
// first call fixes the order by PCI bus, which is NVML's, so that ordinals mean the same
// everywhere.
int cuda_device_count();

struct CudaMemory {
  std::uint64_t free = 0;   // of the whole device, as the driver sees it
  std::uint64_t total = 0;  // usable by all processes
};
// Makes a context on `device` where there is none.
CudaMemory cuda_memory(int device);
std::string cuda_device_name(int device);
std::string cuda_pci_address(int device);  // "0000:3B:00.0"; empty where the driver does not say

// Page-locks [data, data + bytes) for copies from all GPUs as long as it lives, through the context
// of `device`, which is made where there is none. The memory belongs to the caller and must outlive
// it. Default-constructed: registers nothing.
class HostRegistration {
 public:
  HostRegistration() = default;
  // Throws Error where the driver refuses.
  HostRegistration(int device, void* data, std::size_t bytes);
  ~HostRegistration();
  HostRegistration(HostRegistration&& other) noexcept;
  HostRegistration& operator=(HostRegistration&& other) noexcept;

  bool active() const { return data_ != nullptr; }

 private:
  void* data_ = nullptr;
};

// All weights of one device in one allocation. The base is aligned to 256 bytes at least.
class DeviceArena {
 public:
  DeviceArena() = default;
  DeviceArena(int device, std::size_t bytes);  // throws Error naming what is free
  ~DeviceArena();
  DeviceArena(DeviceArena&& other) noexcept;
  DeviceArena& operator=(DeviceArena&& other) noexcept;

  std::byte* data() const { return data_; }

 private:
  int device_ = 0;
  std::byte* data_ = nullptr;
};

// A point in a CopyStream; unset until recorded, and then done from the start.
class CopyEvent {
 public:
  CopyEvent() = default;
  explicit CopyEvent(int device);
  ~CopyEvent();
  CopyEvent(CopyEvent&& other) noexcept;
  CopyEvent& operator=(CopyEvent&& other) noexcept;

  bool done() const;  // throws Error where the work before it failed
  void wait() const;

 private:
  friend class CopyStream;
  void* event_ = nullptr;
};

// A non-blocking stream of copies, casts and dequantisations to one device, in order.
class CopyStream {
 public:
  CopyStream() = default;
  explicit CopyStream(int device);
  ~CopyStream();  // waits for what was enqueued
  CopyStream(CopyStream&& other) noexcept;
  CopyStream& operator=(CopyStream&& other) noexcept;

  // Enqueues; `from` must stay until an event recorded later is done. Asynchronous only from
  // registered memory.
  void copy_to_device(void* to, const void* from, std::size_t bytes);
  // The same for many at once: one call to the driver where the runtime has it.
  struct Copy {
    void* to = nullptr;
    const void* from = nullptr;
    std::size_t bytes = 0;
  };
  void copy_to_device(std::span<const Copy> copies);
  void copy_to_host(void* to, const void* from, std::size_t bytes);
  void cast(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
            std::size_t count);
  // See dequantize_on_device(); all pointers are of this device.
  void dequantize(const QuantLayout& layout, const QuantTables& tables, const void* from,
                  std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format);
  void record(CopyEvent& event);
  void synchronize();
  void drain() noexcept;  // synchronize() on the way out of an error

  int device() const { return device_; }
  CudaStreamHandle handle() const { return stream_; }

 private:
  int device_ = 0;
  void* stream_ = nullptr;
};

}  // namespace berth

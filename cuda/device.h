// What the loader needs of GPUs: memory, copies that run while the CPU does other things, and
// events.
//
// No CUDA header is needed to use this one. A program that links it also runs without a GPU or a
// driver; then cuda_device_count() is 0, and everything else throws Error. It is the same in a
// build without the CUDA toolkit (BERTH_CUDA=OFF). Objects may be moved; each may be used by one
// thread at a time. Functions that act on a device first select it for the calling thread. They
// throw Error where CUDA fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "cuda/cast.h"
#include "cuda/dequant.h"

namespace berth {

// The number of usable GPUs; 0 without a driver. Makes no context. Unless CUDA_DEVICE_ORDER is set,
// the first call sets it to the order of PCI addresses, which is also NVML's, so that a number
// means the same GPU everywhere.
int cuda_device_count();

struct CudaMemory {
  std::uint64_t free = 0;   // bytes that no process uses, as the driver sees it
  std::uint64_t total = 0;  // bytes that all processes together can use
};
// Makes a context on `device` where there is none yet.
CudaMemory cuda_memory(int device);
std::string cuda_device_name(int device);
// Whether an address is of memory of this device. Makes a context on it.
bool is_device_memory(int device, const void* data);
std::string cuda_pci_address(int device);  // "0000:3B:00.0"; empty where the driver does not say

// Keeps [data, data + bytes) page-locked as long as it lives, for copies to and from all GPUs. It
// does so through the context of `device`, which is made where there is none yet. The memory is the
// caller's and must outlive this object. A default-constructed one locks nothing.
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

// Memory of a device, in one allocation that begins at a multiple of 256 bytes or more.
class DeviceArena {
 public:
  DeviceArena() = default;
  DeviceArena(int device, std::size_t bytes);  // throws Error, which says how much is free
  ~DeviceArena();
  DeviceArena(DeviceArena&& other) noexcept;
  DeviceArena& operator=(DeviceArena&& other) noexcept;

  std::byte* data() const { return data_; }

 private:
  int device_ = 0;
  std::byte* data_ = nullptr;
};

// A point in a CopyStream. One that was never recorded counts as done.
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

// A stream of copies, casts and dequantisations on one device, which are done in the order in which
// they were enqueued. It does not wait for CUDA's default stream.
class CopyStream {
 public:
  CopyStream() = default;
  explicit CopyStream(int device);
  ~CopyStream();  // waits for everything that was enqueued
  CopyStream(CopyStream&& other) noexcept;
  CopyStream& operator=(CopyStream&& other) noexcept;

  // Enqueues a copy. `from` must stay as it is until an event that is recorded later is done. The
  // copy is only asynchronous where `from` is page-locked; otherwise it has been read when the call
  // returns.
  void copy_to_device(void* to, const void* from, std::size_t bytes);
  // Enqueues many copies, which may be done in any order among themselves: with one call to the
  // driver where CUDA's runtime can do that.
  struct Copy {
    void* to = nullptr;
    const void* from = nullptr;
    std::size_t bytes = 0;
  };
  void copy_to_device(std::span<const Copy> copies);
  void copy_to_host(void* to, const void* from, std::size_t bytes);
  void fill_with_zeros(void* to, std::size_t bytes);
  void cast(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
            std::size_t count);
  // See dequantize_on_device(); all pointers are to memory of this device.
  void dequantize(const QuantLayout& layout, const QuantTables& tables, const void* from,
                  std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format);
  void record(CopyEvent& event);
  // What is enqueued from now on waits for all that the stream `other` of the same device has got
  // by now. Null: CUDA's default stream. `other` need not be of this program.
  void wait_for(CudaStreamHandle other);
  void synchronize();     // waits for everything that was enqueued; throws Error where it failed
  void drain() noexcept;  // the same on the way out of an error, which hides failures

  int device() const { return device_; }
  CudaStreamHandle handle() const { return stream_; }

 private:
  int device_ = 0;
  void* stream_ = nullptr;
};

}  // namespace berth

#include "cuda/device.h"

#include <vector>

#include "berth/error.h"
#include "cuda/check.h"

namespace berth {
namespace {

void select_device(int device) {
  BERTH_CUDA_CHECK(cudaSetDevice(device), "selecting device " + std::to_string(device));
}

cudaStream_t stream_of(void* handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t event_of(void* handle) { return static_cast<cudaEvent_t>(handle); }

}  // namespace

// GPUs have the ordinals that the environment gives them, which are those that the planner counts
// with (planner/machine/visible.h). A library must not change the environment of its program.
int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

CudaMemory cuda_memory(int device) {
  select_device(device);
  std::size_t free = 0;
  std::size_t total = 0;
  BERTH_CUDA_CHECK(cudaMemGetInfo(&free, &total),
                   "asking for the memory of device " + std::to_string(device));
  return {free, total};
}

std::string cuda_device_name(int device) {
  cudaDeviceProp properties{};
  BERTH_CUDA_CHECK(cudaGetDeviceProperties(&properties, device),
                   "asking for the name of device " + std::to_string(device));
  return properties.name;
}

bool is_device_memory(int device, const void* data) {
  select_device(device);
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  const bool managed = attributes.type == cudaMemoryTypeManaged;
  return managed || (attributes.type == cudaMemoryTypeDevice && attributes.device == device);
}

std::string cuda_pci_address(int device) {
  char address[32] = {};
  if (cudaDeviceGetPCIBusId(address, sizeof address, device) == cudaSuccess) return address;
  cudaGetLastError();
  return {};
}

HostRegistration::HostRegistration(int device, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  select_device(device);
  BERTH_CUDA_CHECK(cudaHostRegister(data, bytes, cudaHostRegisterPortable),
                   "page-locking " + std::to_string(bytes) + " bytes of host memory");
  data_ = data;
}

HostRegistration::~HostRegistration() {
  if (data_) cudaHostUnregister(data_);
}

HostRegistration::HostRegistration(HostRegistration&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)) {}

HostRegistration& HostRegistration::operator=(HostRegistration&& other) noexcept {
  std::swap(data_, other.data_);
  return *this;
}

DeviceArena::DeviceArena(int device, std::size_t bytes) : device_(device) {
  if (bytes == 0) return;
  select_device(device);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const CudaMemory memory = cuda_memory(device);
    throw Error("device " + std::to_string(device) + ": out of memory: the weights need " +
                std::to_string(bytes) + " bytes in one block, " + std::to_string(memory.free) +
                " of " + std::to_string(memory.total) +
                " are free; give the device a smaller budget with --max-memory");
  }
  BERTH_CUDA_CHECK(
      status, "allocating " + std::to_string(bytes) + " bytes on device " + std::to_string(device));
  data_ = static_cast<std::byte*>(data);
}

DeviceArena::~DeviceArena() {
  if (!data_) return;
  cudaSetDevice(device_);
  cudaFree(data_);
}

DeviceArena::DeviceArena(DeviceArena&& other) noexcept
    : device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}

DeviceArena& DeviceArena::operator=(DeviceArena&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  return *this;
}

CopyEvent::CopyEvent(int device) {
  select_device(device);
  cudaEvent_t event = nullptr;
  BERTH_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  event_ = event;
}

CopyEvent::~CopyEvent() {
  if (event_) cudaEventDestroy(event_of(event_));
}

CopyEvent::CopyEvent(CopyEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}

CopyEvent& CopyEvent::operator=(CopyEvent&& other) noexcept {
  std::swap(event_, other.event_);
  return *this;
}

bool CopyEvent::done() const {
  if (!event_) return true;
  const cudaError_t status = cudaEventQuery(event_of(event_));
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  BERTH_CUDA_CHECK(status, "copying to a device");
  return true;
}

void CopyEvent::wait() const {
  if (event_) BERTH_CUDA_CHECK(cudaEventSynchronize(event_of(event_)), "copying to a device");
}

CopyStream::CopyStream(int device) : device_(device) {
  select_device(device);
  cudaStream_t stream = nullptr;
  BERTH_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  stream_ = stream;
}

CopyStream::~CopyStream() {
  if (!stream_) return;
  drain();
  cudaStreamDestroy(stream_of(stream_));
}

CopyStream::CopyStream(CopyStream&& other) noexcept
    : device_(other.device_), stream_(std::exchange(other.stream_, nullptr)) {}

CopyStream& CopyStream::operator=(CopyStream&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(stream_, other.stream_);
  return *this;
}

void CopyStream::copy_to_device(void* to, const void* from, std::size_t bytes) {
  select_device(device_);
  BERTH_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream_)),
                   "copying to device " + std::to_string(device_));
}

void CopyStream::copy_to_device(std::span<const Copy> copies) {
#if CUDART_VERSION >= 13000
  // For fewer copies a call each is as fast. The copies of a batch may run in any order, which does
  // not matter because their destinations differ; the stream still keeps the batch in its order.
  constexpr std::size_t kWorthBatching = 4;
  if (copies.size() >= kWorthBatching) {
    select_device(device_);
    std::vector<void*> to;
    std::vector<const void*> from;
    std::vector<std::size_t> bytes;
    for (const Copy& copy : copies) {
      to.push_back(copy.to);
      from.push_back(copy.from);
      bytes.push_back(copy.bytes);
    }
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    std::size_t first = 0;
    const cudaError_t status =
        cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), copies.size(), &attributes,
                             &first, 1, stream_of(stream_));
    if (status == cudaSuccess) return;
    // The driver is older than the runtime, or the memory could not be page-locked: copy one by
    // one.
    if (status != cudaErrorNotSupported && status != cudaErrorCallRequiresNewerDriver &&
        status != cudaErrorInvalidValue) {
      BERTH_CUDA_CHECK(status, "copying to device " + std::to_string(device_));
    }
    cudaGetLastError();
  }
#endif
  for (const Copy& copy : copies) copy_to_device(copy.to, copy.from, copy.bytes);
}

void CopyStream::copy_to_host(void* to, const void* from, std::size_t bytes) {
  select_device(device_);
  BERTH_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream_)),
                   "copying from device " + std::to_string(device_));
}

void CopyStream::fill_with_zeros(void* to, std::size_t bytes) {
  if (bytes == 0) return;
  select_device(device_);
  BERTH_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, stream_of(stream_)),
                   "clearing memory of device " + std::to_string(device_));
}

void CopyStream::cast(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                      std::size_t count) {
  select_device(device_);
  cast_on_device(from, from_format, to, to_format, count, stream_);
}

void CopyStream::dequantize(const QuantLayout& layout, const QuantTables& tables, const void* from,
                            std::uint64_t first, std::uint64_t bytes, void* to,
                            FloatFormat to_format) {
  select_device(device_);
  dequantize_on_device(layout, tables, from, first, bytes, to, to_format, stream_);
}

void CopyStream::record(CopyEvent& event) {
  BERTH_CUDA_CHECK(cudaEventRecord(event_of(event.event_), stream_of(stream_)),
                   "recording an event on device " + std::to_string(device_));
}

void CopyStream::wait_for(CudaStreamHandle other) {
  const CopyEvent event(device_);
  const std::string doing = "waiting for a stream of device " + std::to_string(device_);
  BERTH_CUDA_CHECK(cudaEventRecord(event_of(event.event_), stream_of(other)), doing);
  BERTH_CUDA_CHECK(cudaStreamWaitEvent(stream_of(stream_), event_of(event.event_), 0), doing);
}

void CopyStream::synchronize() {
  if (!stream_) return;
  BERTH_CUDA_CHECK(cudaStreamSynchronize(stream_of(stream_)),
                   "waiting for device " + std::to_string(device_));
}

void CopyStream::drain() noexcept {
  if (stream_ && cudaStreamSynchronize(stream_of(stream_)) != cudaSuccess) cudaGetLastError();
}

}  // namespace berth

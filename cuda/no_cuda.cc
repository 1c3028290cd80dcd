// The interface of this folder in a build without CUDA: there are no devices, and what would need
// one throws Error.
#include "berth/error.h"
#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "cuda/dequant.h"
#include "cuda/device.h"
#include "cuda/gpu_bench.h"
#include "cuda/group_tiling.h"
#include "cuda/grouped_product.h"
#include "cuda/packed_product.h"
#include "cuda/read_words.h"
#include "cuda/reorder.h"

namespace berth {
namespace {

[[noreturn]] void refuse() { throw Error("this build of Berth has no CUDA support"); }

class NoGpuBench final : public GpuBench {
 public:
  int count() const override { return 0; }
  GpuIdentity identity(int) override { refuse(); }
  void prepare(int, std::size_t, std::size_t) override { refuse(); }
  void release(int) noexcept override {}
  GpuTime copy_to_device(int, std::size_t) override { refuse(); }
  GpuTime copy_to_host(int, std::size_t) override { refuse(); }
  GpuTime read_memory(int, std::size_t) override { refuse(); }
  std::optional<GpuTime> copy_between(int, int, std::size_t) override { refuse(); }
};

}  // namespace

int cuda_device_count() { return 0; }
CudaMemory cuda_memory(int) { refuse(); }
std::string cuda_device_name(int) { refuse(); }
std::string cuda_pci_address(int) { refuse(); }
bool is_device_memory(int, const void*) { refuse(); }

HostRegistration::HostRegistration(int, void*, std::size_t) { refuse(); }
HostRegistration::~HostRegistration() = default;
HostRegistration::HostRegistration(HostRegistration&&) noexcept = default;
HostRegistration& HostRegistration::operator=(HostRegistration&&) noexcept = default;

DeviceArena::DeviceArena(int, std::size_t) { refuse(); }
DeviceArena::~DeviceArena() = default;
DeviceArena::DeviceArena(DeviceArena&&) noexcept = default;
DeviceArena& DeviceArena::operator=(DeviceArena&&) noexcept = default;

CopyEvent::CopyEvent(int) { refuse(); }
CopyEvent::~CopyEvent() = default;
CopyEvent::CopyEvent(CopyEvent&&) noexcept = default;
CopyEvent& CopyEvent::operator=(CopyEvent&&) noexcept = default;
bool CopyEvent::done() const { return true; }
void CopyEvent::wait() const {}

CopyStream::CopyStream(int) { refuse(); }
CopyStream::~CopyStream() = default;
CopyStream::CopyStream(CopyStream&&) noexcept = default;
CopyStream& CopyStream::operator=(CopyStream&&) noexcept = default;
void CopyStream::copy_to_device(std::span<const Copy>) { refuse(); }
void CopyStream::copy_to_device(void*, const void*, std::size_t) { refuse(); }
void CopyStream::copy_to_host(void*, const void*, std::size_t) { refuse(); }
void CopyStream::fill_with_zeros(void*, std::size_t) { refuse(); }
void CopyStream::cast(const void*, FloatFormat, void*, FloatFormat, std::size_t) { refuse(); }
void CopyStream::dequantize(const QuantLayout&, const QuantTables&, const void*, std::uint64_t,
                            std::uint64_t, void*, FloatFormat) {
  refuse();
}
void CopyStream::record(CopyEvent&) { refuse(); }
void CopyStream::wait_for(CudaStreamHandle) { refuse(); }
void CopyStream::synchronize() {}
void CopyStream::drain() noexcept {}

void dequantize_on_device(const void*, BlockFormat, void*, FloatFormat, std::size_t,
                          CudaStreamHandle) {
  refuse();
}
void reorder_on_device(const void*, std::size_t, std::size_t, const Reorder&, void*,
                       CudaStreamHandle) {
  refuse();
}
void cast_on_device(const void*, FloatFormat, void*, FloatFormat, std::size_t, CudaStreamHandle) {
  refuse();
}

void dequantize_on_device(const QuantLayout&, const QuantTables&, const void*, std::uint64_t,
                          std::uint64_t, void*, FloatFormat, CudaStreamHandle) {
  refuse();
}

void multiply_packed_on_device(const PackedMatrix&, const PackedInput&, void*, const PackedOutput&,
                               CudaStreamHandle) {
  refuse();
}
void dequantize_rows_on_device(const PackedMatrix&, const std::int64_t*, std::size_t,
                               const PackedOutput&, CudaStreamHandle) {
  refuse();
}
bool has_packed_kernels(int) { return false; }

void tile_packed_on_device(const QuantLayout&, const QuantTables&, const GroupTile&, const void*,
                           std::uint64_t, std::uint64_t, void*, CudaStreamHandle) {
  refuse();
}
void multiply_grouped_on_device(const GroupedMatrix&, const PackedInput&, void*,
                                const PackedOutput&, CudaStreamHandle) {
  refuse();
}
void grouped_rows_on_device(const GroupedMatrix&, const RowChoice&, const PackedOutput&,
                            CudaStreamHandle) {
  refuse();
}

void xor_words_on_device(const void*, std::size_t, std::uint32_t*, CudaStreamHandle) { refuse(); }

std::unique_ptr<GpuBench> make_gpu_bench() { return std::make_unique<NoGpuBench>(); }

}  // namespace berth

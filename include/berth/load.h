// What loading and converting are asked for, what they give and what they report. The functions
// themselves are in loader.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/machine.h"
#include "berth/model.h"

namespace berth {

enum class IoEngine : std::uint8_t { kAuto, kBuffered, kDirect, kUring };
std::string_view io_engine_name(IoEngine engine);
std::optional<IoEngine> parse_io_engine(std::string_view name);

struct LoadProgress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  double seconds = 0;
};

struct LoadOptions {
  bool prefault = false;          // read mapped tensors in, too. Default: false
  IoEngine io = IoEngine::kAuto;  // Default: by page-cache residency and file system
  std::uint64_t staging =
      128ull << 20;      // bytes; transient memory never exceeds it. Default: 128 MiB
  bool emulate = false;  // devices that are absent live in host memory
  // A file that `berth checksum` wrote: every tensor is compared with it as it is read, mapped ones
  // before load() returns, those on disk when they are fetched. Default: none, nothing is compared.
  std::filesystem::path verify;
  // Where tensors of the disk tier are kept that are not wanted as stored; needed for those only.
  // Default: a temporary folder on a disk.
  std::filesystem::path offload_folder;
  const std::atomic<bool>* cancel = nullptr;             // set to true: load() throws Interrupted
  std::function<void(const LoadProgress&)> on_progress;  // from one thread, a few times a second
};

// Host memory of this process, from /proc/self/status; bytes.
struct HostMemory {
  std::uint64_t rss = 0;
  std::uint64_t anonymous = 0;
  std::uint64_t file = 0;
  std::uint64_t shared = 0;
};
HostMemory host_memory();

struct DeviceLoad {
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
  bool emulated = false;
  std::uint64_t planned = 0;  // weights by plan
  // Bytes of the tensors that are there now, shared storage once; for the disk, of what fetch()
  // gives.
  std::uint64_t loaded = 0;
  std::uint64_t gpu_used_before = 0;  // whole device, from the driver; 0 where there is none
  std::uint64_t gpu_used_after = 0;
};

struct LoadReport {
  double seconds = 0;
  std::uint64_t tensors = 0;
  // Delivered by read engines, every needed byte once. Mapped bytes are not read here, and what
  // O_DIRECT reads around a range to fill its blocks is not counted.
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_mapped = 0;           // handed out as mappings of the checkpoint
  std::uint64_t bytes_mapped_resident = 0;  // of those, in RAM when the load ended
  std::uint64_t bytes_offloaded = 0;        // written to the offload file, converted
  std::uint64_t tensors_verified = 0;       // compared with their checksums
  std::vector<DeviceLoad> devices;
  HostMemory before;  // after CUDA contexts were made, before anything else
  HostMemory after;
  std::uint64_t host_peak_bytes = 0;     // anonymous + shared above `before`, highest seen
  std::uint64_t planned_peak_bytes = 0;  // private and emulated memory, and the staging ring
  // One line a shard: "model-00001-of-00005.safetensors: direct (0% in page cache, ext4)".
  std::vector<std::string> io_choices;
  std::vector<std::string> notes;  // what was done otherwise than asked, and why
};

// A tensor where it ended. `data` points into device memory for a real GPU, else host memory; it
// is null for a tensor left on disk, and for a buffer that no checkpoint stores (0 bytes: whoever
// runs the model computes it). Valid as long as the LoadedModel.
struct LoadedTensor {
  TensorId id = kNone;
  DType dtype = DType::kF32;
  const std::uint64_t* shape = nullptr;
  std::size_t rank = 0;
  std::uint32_t device = 0;  // index into Plan::devices
  bool emulated = false;
  std::byte* data = nullptr;  // read-only memory where the CPU memory mode is mmap
  std::uint64_t bytes = 0;
};

// Memory that frees itself; for tensors fetched from the disk tier.
struct HostBlock {
  std::shared_ptr<std::byte[]> data;
  std::uint64_t bytes = 0;
};

class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual const LoadReport& report() const = 0;
  // By TensorId of the tree; tied tensors on one device share `data`.
  virtual const LoadedTensor& tensor(TensorId id) const = 0;
  // Reads a tensor of the disk tier from its shard, or converted from the offload file. Throws
  // Error.
  virtual HostBlock fetch(TensorId id) const = 0;
  // Mapped tensors are pages of their files: if somebody cuts a file short, touching what is gone
  // raises SIGBUS, which a library cannot turn into an error (the program may: cli/bus_guard.h).
  // This looks without the signal, at the last page of every mapped range: throws Error naming the
  // shard that became shorter. Replacing a file by rename, or deleting it, does no harm.
  virtual void check_mapped() const = 0;
};

}  // namespace berth

// What loading and converting are asked for, what they give and what they report. The functions
// themselves are in loader.h.
//
// Options and reports are plain values. A LoadedModel never changes once load() has returned it,
// and may be read from many threads at once.
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

#include "berth/error.h"
#include "berth/machine.h"
#include "berth/model.h"

namespace berth {

// How files are read.
enum class IoEngine : std::uint8_t {
  kAuto,      // whichever of the others suits a file: by page-cache residency and file system
  kBuffered,  // pread through the page cache
  kDirect,    // pread with O_DIRECT, around the page cache
  kUring,     // O_DIRECT through io_uring; kDirect where io_uring is not there or forbidden
};
BERTH_API std::string_view io_engine_name(IoEngine engine);  // "auto", "buffered", ...
// The inverse; nothing for a text that is no engine's name.
BERTH_API std::optional<IoEngine> parse_io_engine(std::string_view name);

struct LoadProgress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  double seconds = 0;  // since the load began
};

struct LoadOptions {
  // Also reads mapped tensors into memory before load() returns. Default: they are read when they
  // are first touched.
  bool prefault = false;
  IoEngine io = IoEngine::kAuto;  // Default: kAuto
  // The most bytes that the buffers for loading may take; at least 256 KiB. Default: 128 MiB
  std::uint64_t staging = 128ull << 20;
  // Keeps tensors of devices that this machine lacks in host memory. Default: they are an Error.
  bool emulate = false;
  // Puts matrices in block formats that go to host memory (private, or of devices that are
  // emulated) into tiles while they are read, and those on disk when they are fetched:
  // LoadedTensor::tiled_rows. A run wants that; mapped ones stay as they are stored, so that those
  // of a file with tiles (StoredForm::tiled) are mapped in tiles. Default: no tensor is in tiles,
  // and those of such a file are put in rows, in private memory of which a plan does not know.
  bool tile = false;
  // A file that `berth checksum` wrote: every tensor is compared with it as it is read, mapped ones
  // before load() returns, those on disk when they are fetched. Default: none, nothing is compared.
  std::filesystem::path verify;
  // The folder that keeps tensors which the plan leaves on the disk and which must be converted.
  // Default: a temporary folder on a disk.
  std::filesystem::path offload_folder;
  // This machine as the caller has just found it, by probe_machine(). Default: load() probes it.
  std::optional<Machine> machine;
  // If any thread or a signal handler sets it to true, load() throws Interrupted, unless everything
  // is read already. It must live until load() returns. Default: none.
  const std::atomic<bool>* cancel = nullptr;
  // Called a few times a second, always from one thread, which need not be the caller's. Default:
  // none.
  std::function<void(const LoadProgress&)> on_progress;
};

// Host memory of a process, in bytes, as /proc/self/status has it.
struct HostMemory {
  std::uint64_t rss = 0;        // all that is resident: the sum of the other three
  std::uint64_t anonymous = 0;  // private memory
  std::uint64_t file = 0;       // pages of mapped files, which the kernel can take back
  std::uint64_t shared = 0;     // shared memory
};
// Of this process, now. Zero where /proc is absent.
BERTH_API HostMemory host_memory();

// What a load did to one device of the plan.
struct DeviceLoad {
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
  bool emulated = false;      // its weights are in host memory
  std::uint64_t planned = 0;  // weights by plan
  // Bytes of the tensors that are there now, with storage that tensors share counted once; for the
  // disk, bytes of what fetch() gives.
  std::uint64_t loaded = 0;
  // Memory in use on the whole GPU, by all processes, as the driver says; 0 where there is no GPU.
  std::uint64_t gpu_used_before = 0;
  std::uint64_t gpu_used_after = 0;
};

// What was measured; members called `planned_...` say what the plan expected. Sizes are bytes.
struct LoadReport {
  double seconds = 0;
  std::uint64_t tensors = 0;
  // What the read engines delivered, every needed byte once. Mapped bytes are not among them, nor
  // what O_DIRECT reads around a range to fill its blocks.
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_mapped = 0;  // handed out as mappings of the checkpoint
  // Of those, in RAM when the load ended; of more than a GiB an estimate, from samples.
  std::uint64_t bytes_mapped_resident = 0;
  std::uint64_t bytes_offloaded = 0;   // written to the offload file, converted
  std::uint64_t tensors_verified = 0;  // compared with their checksums
  std::vector<DeviceLoad> devices;
  HostMemory before;  // after CUDA contexts were made, before anything else
  HostMemory after;
  std::uint64_t host_peak_bytes = 0;     // anonymous + shared above `before`, highest seen
  std::uint64_t planned_peak_bytes = 0;  // private and emulated memory, and the staging ring
  // One line a shard: "model-00001-of-00005.safetensors: direct (0% in page cache, ext4)".
  std::vector<std::string> io_choices;
  std::vector<std::string> notes;  // what was done differently than asked, and why
};

// A tensor at its destination, with its elements in row-major order. `data` points into device
// memory for a real GPU, else into host memory. It is null for a tensor left on disk, and for a
// buffer that no checkpoint stores (0 bytes: whoever runs the model computes it). Pointers are
// valid as long as the LoadedModel lives.
struct LoadedTensor {
  TensorId id = kNone;
  DType dtype = DType::kF32;
  const std::uint64_t* shape = nullptr;  // `rank` sizes
  std::size_t rank = 0;
  std::uint32_t device = 0;  // index into Plan::devices
  bool emulated = false;
  std::byte* data = nullptr;  // read-only memory where the CPU memory mode is mmap
  std::uint64_t bytes = 0;
  // The first rows of a matrix, a multiple of 16, that stand in tiles (LoadOptions::tile): the same
  // bytes in another order, as runtime/kernels/matrix.h says. Of a tensor on disk: once fetched.
  // All rows of a weight that was made from several stored tensors (Dequantize::kPacked); one of
  // [experts, in, out] then has out x in rows of each expert, one expert after another.
  std::uint64_t tiled_rows = 0;
};

// Host memory that frees itself, and outlives the LoadedModel; of a tensor fetched from the disk.
struct HostBlock {
  std::shared_ptr<std::byte[]> data;
  std::uint64_t bytes = 0;
};

// A model that load() has loaded. Destroying it frees all its memory, on every device.
class BERTH_API LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual const LoadReport& report() const = 0;
  // By index into ModelTree::tensors; throws Error for any other. Tied tensors on one device share
  // `data`.
  virtual const LoadedTensor& tensor(TensorId id) const = 0;
  // Reads a tensor that the plan left on the disk, and converts it if the plan says so. Throws
  // Error if it cannot be read, its file has changed since it was opened, or its checksum differs.
  virtual HostBlock fetch(TensorId id) const = 0;
  // Mapped tensors are pages of their files. If somebody cuts such a file short, touching what is
  // gone raises SIGBUS, which a library cannot turn into an error. This looks without the signal,
  // at the last page of every mapped range, and throws Error naming the shard that became shorter.
  // Replacing a file by renaming another one over it, or deleting it, does no harm.
  virtual void check_mapped() const = 0;
};

}  // namespace berth

// Loading by plan, and converting: the two functions that libberth_loader.so exists for. Link
// berth::loader. Neither needs libtorch, and load() needs a GPU only if the plan uses one.
//
// All or nothing: load() gives a LoadedModel that holds every tensor, or throws Error and leaves no
// thread, mapping, descriptor, file or byte of a device behind, and can be called again. Each
// needed byte is read once and goes straight to where the plan wants it. convert() reads through
// the same engines and the same limited staging, in file order, however large a tensor is; its
// folder is complete or absent.
//
// Threads: one call of load() or convert() at a time in a process; they use threads of their own
// and join them. A LoadedModel may be read from many threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "berth/load.h"
#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// Checks that the plan still fits what is free now (recheck()), then loads. `plan` was made for
// `model`, which has a checkpoint; neither is needed any more when load() returns.
// Throws Error naming file, tensor or device: a plan that does not fit or is for another model, a
// file that cannot be read, was cut short or has changed since it was opened, a checksum that
// differs, memory that a device refuses. Throws Interrupted where `options.cancel` became true.
BERTH_API std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan,
                                            const LoadOptions& options);

// A stored tensor that is to be written, and as what.
struct ConvertTensor {
  std::string name;
  std::uint32_t source = 0;  // index into Checkpoint::tensors
  DType dtype = DType::kF32;
};

struct ConvertOptions {
  // Of tensors in one file; a tensor that is larger gets a file of its own. Default: 5 GB
  std::uint64_t max_shard_bytes = 5'000'000'000;
  IoEngine io = IoEngine::kAuto;                         // Default: kAuto
  std::uint64_t staging = 128ull << 20;                  // as in LoadOptions. Default: 128 MiB
  const std::atomic<bool>* cancel = nullptr;             // as in LoadOptions
  std::function<void(const LoadProgress&)> on_progress;  // as in LoadOptions
};

struct ConvertedFile {
  std::string name;
  std::uint64_t bytes = 0;
};

// Measured; sizes are bytes.
struct ConvertReport {
  double seconds = 0;  // until everything is on the disk
  std::uint64_t tensors = 0;
  std::uint64_t converted = 0;       // tensors whose dtype changed
  std::uint64_t tiled = 0;           // matrices that were put in tiles
  std::uint64_t bytes_read = 0;      // every needed byte once
  std::uint64_t bytes_written = 0;   // of all files but companions
  std::vector<ConvertedFile> files;  // of weights
  HostMemory before;
  HostMemory after;
  std::uint64_t host_peak_bytes = 0;     // anonymous + shared above `before`
  std::uint64_t planned_peak_bytes = 0;  // the part of the staging that is used
  std::vector<std::string> io_choices;   // as in LoadReport
};

// Writes `tensors` of `checkpoint`, as safetensors in one file or in shards with an index, and the
// companions to the new folder `out`. Names are unique; files are filled in the order of `tensors`,
// which is quickest in the order of the checkpoint.
// Throws Error naming file or tensor: `out` exists, a dtype that a tensor cannot be turned into
// (can_convert()), a file that cannot be read or written. Throws Interrupted where `options.cancel`
// became true. Then nothing of `out` exists, and no thread or descriptor is left.
BERTH_API ConvertReport convert(const Checkpoint& checkpoint,
                                const std::vector<ConvertTensor>& tensors,
                                const std::vector<Companion>& companions,
                                const std::filesystem::path& out, const ConvertOptions& options);

// Writes a GGUF model anew for CPUs, to the new folder `out`: in one file or in splits, with the
// same metadata, names and formats. Its matrices in block formats are in tiles (StoredForm::tiled),
// so that load() can map them in the form that kernels want. No other program reads such files.
// `model` is as open_model() gives it where nothing is asked for. Throws as convert() does; also
// for a model that is no GGUF file, that is in tiles already, or that has nothing to put in tiles.
BERTH_API ConvertReport convert_for_cpu(const Model& model, const std::filesystem::path& out,
                                        const ConvertOptions& options);

}  // namespace berth

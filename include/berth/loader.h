// Loading by plan and converting: what libberth_loader.so does. Nothing here needs libtorch.
//
// All or nothing: load() returns a LoadedModel that holds every tensor, or throws Error with no
// thread, mapping, descriptor, file or device byte left behind, and can be called again. Each
// needed byte is read once and goes straight to the place that the plan names. load() may be called
// from one thread at a time; a LoadedModel is immutable and may be read from many.
//
// convert() takes the same road to a folder of sharded safetensors: the schedule reads every needed
// byte once, in file order, through the same engines and the same bounded staging, whatever the
// size of a tensor. The folder is complete or absent.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// Re-checks what is free, then loads. Throws Error; see the head of this file.
std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan, const LoadOptions& options);

// A stored tensor that is to be written, and as what.
struct ConvertTensor {
  std::string name;
  std::uint32_t source = 0;  // index into Checkpoint::tensors
  DType dtype = DType::kF32;
};

struct ConvertOptions {
  std::uint64_t max_shard_bytes = 5'000'000'000;  // of tensors in a file. Default: 5 GB
  IoEngine io = IoEngine::kAuto;                  // Default: by page-cache residency
  std::uint64_t staging = 128ull << 20;           // bound of transient memory. Default: 128 MiB
  const std::atomic<bool>* cancel = nullptr;      // set to true: convert() throws Interrupted
  std::function<void(const LoadProgress&)> on_progress;  // from one thread
};

struct ConvertedFile {
  std::string name;
  std::uint64_t bytes = 0;
};

struct ConvertReport {
  double seconds = 0;  // until everything is on the disk
  std::uint64_t tensors = 0;
  std::uint64_t converted = 0;       // of those, whose dtype changed
  std::uint64_t bytes_read = 0;      // every needed byte once
  std::uint64_t bytes_written = 0;   // of all files but companions
  std::vector<ConvertedFile> files;  // of weights
  HostMemory before;
  HostMemory after;
  std::uint64_t host_peak_bytes = 0;     // anonymous + shared above `before`
  std::uint64_t planned_peak_bytes = 0;  // staging that is used
  std::vector<std::string> io_choices;   // as in LoadReport
};

// Writes `tensors` of `checkpoint` and the companions to the new folder `out`. Names are unique;
// files are filled in the order of `tensors`, which is quickest in the order of the checkpoint.
// Throws Error; then nothing of `out` exists, and no thread or descriptor is left.
ConvertReport convert(const Checkpoint& checkpoint, const std::vector<ConvertTensor>& tensors,
                      const std::vector<Companion>& companions, const std::filesystem::path& out,
                      const ConvertOptions& options);

}  // namespace berth

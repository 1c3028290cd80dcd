// What load() asks of the world around it, replaceable in tests.
#pragma once

#include <filesystem>
#include <functional>

#include "berth/load.h"
#include "berth/machine.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "runtime/io/file_facts.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/staging.h"

namespace berth {

// Wraps the sink of a device (also of an emulated one) before use; tests make devices that run
// out of memory, fail, or copy later.
using WrapSink =
    std::function<std::unique_ptr<DeviceSink>(std::unique_ptr<DeviceSink>, const DeviceLedger&)>;

struct LoadEnvironment {
  WrapReader wrap_reader;  // Default: none
  WrapSink wrap_sink;      // Default: none
  PageLock page_lock;      // Default: the CUDA driver's, where a GPU is used
  // Bytes free for a file in a folder. Default: statvfs(3).
  std::function<std::uint64_t(const std::filesystem::path&)> disk_space = free_disk_space;
  std::function<FileSystemFacts(const std::filesystem::path&)> file_system = file_system_of;
  // Checks the plan against what is free now: "" or one sentence. Default: no check.
  std::function<std::string(const Plan&, const Machine&, bool emulate)> recheck;
  // Default: no check of host memory.
  std::function<Machine(const std::filesystem::path&)> probe;
};

// The real one: probe_machine() and recheck().
LoadEnvironment real_environment();

// load() in a given environment.
std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan, const LoadOptions& options,
                                  const LoadEnvironment& environment);

}  // namespace berth

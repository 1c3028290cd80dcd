// What load() asks of the world around it, replaceable in tests.
#pragma once

#include <filesystem>
#include <functional>

#include "planner/machine/machine.h"
#include "runtime/load/copy_engine.h"
#include "runtime/io/file_facts.h"
#include "runtime/load/loader.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/staging.h"

namespace berth {

// Wraps the engine of a device (also of an emulated one) before use; tests make devices that run
// out of memory, fail, or copy later.
using WrapEngine =
    std::function<std::unique_ptr<CopyEngine>(std::unique_ptr<CopyEngine>, const DeviceLedger&)>;

struct LoadEnvironment {
  WrapReader wrap_reader;  // Default: none
  WrapEngine wrap_engine;  // Default: none
  PageLock page_lock;      // Default: the CUDA driver's, where a GPU is used
  // Bytes free for a file in a folder. Default: statvfs(3).
  std::function<std::uint64_t(const std::filesystem::path&)> disk_room = disk_room_in;
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

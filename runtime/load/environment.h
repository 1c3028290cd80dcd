// What load() asks of the machine that it runs on. Tests replace it.
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

// Wraps the sink of a device, also of an emulated one, before it is used. Tests make devices that
// run out of memory, fail, or copy later than they are told to.
using WrapSink =
    std::function<std::unique_ptr<DeviceSink>(std::unique_ptr<DeviceSink>, const DeviceLedger&)>;

struct LoadEnvironment {
  WrapReader wrap_reader;  // Default: none
  WrapSink wrap_sink;      // Default: none
  PageLock page_lock;      // Default: the CUDA driver's where a GPU is used, else none
  // How many bytes are free for a file in a folder. Default: what statvfs(3) says.
  std::function<std::uint64_t(const std::filesystem::path&)> disk_space = free_disk_space;
  std::function<FileSystemFacts(const std::filesystem::path&)> file_system = file_system_of;
  // Compares the plan with what is free now. Returns "" where it fits, else one sentence that says
  // what is missing. Default: no check.
  std::function<std::string(const Plan&, const Machine&, bool emulate)> recheck;
  // Looks at the machine around a model's folder, as it is now. Default: neither the plan nor host
  // memory is checked.
  std::function<Machine(const std::filesystem::path&)> probe;
};

// The environment outside of tests: this machine, by probe_machine() and recheck().
LoadEnvironment real_environment();

// load() of berth/loader.h, in a given environment.
std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan, const LoadOptions& options,
                                  const LoadEnvironment& environment);

}  // namespace berth

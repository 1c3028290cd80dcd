// What load() asks of the world around it, replaceable in tests.
#pragma once

#include <filesystem>
#include <functional>

#include "planner/machine/machine.h"
#include "runtime/stream/file_facts.h"
#include "runtime/stream/loader.h"
#include "runtime/stream/shard_files.h"

namespace berth {

struct LoadEnvironment {
  WrapReader wrap_reader;  // Default: none
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

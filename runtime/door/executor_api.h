// The door into libberth_executor.so for a program that opens it by name instead of linking it.
//
//   void* library = dlopen(".../libberth_executor.so", RTLD_NOW | RTLD_LOCAL);
//   auto* door = reinterpret_cast<berth::ExecutorDoor>(dlsym(library, berth::kExecutorDoor));
//   const berth::ExecutorApi* api = door();  // compare api->version with kExecutorApiVersion first
//
// Program and library must come from one build, because C++ values and exceptions (berth::Error)
// pass between them. Never dlclose the library: libtorch does not survive that.
#pragma once

#include "berth/plan.h"
#include "runtime/generate/executor.h"

namespace berth {

inline constexpr int kExecutorApiVersion = 5;
inline constexpr const char* kExecutorDoor = "berth_executor_api";

struct ExecutorApi {
  int version = kExecutorApiVersion;
  std::uint64_t (*check_run)(const Model&, const RunOptions&) = nullptr;
  std::string (*why_not_as_stored)(const Model&) = nullptr;
  void (*check_workload)(const Plan&, const RunOptions&, std::uint64_t positions) = nullptr;
  RunReport (*run)(const Model&, const Plan&, const LoadedModel&, const RunOptions&) = nullptr;
  void (*remove_unfinished)() noexcept = nullptr;  // of the library's own; for a signal handler
};

using ExecutorDoor = const ExecutorApi* (*)();

}  // namespace berth

extern "C" __attribute__((visibility("default"))) const berth::ExecutorApi* berth_executor_api();

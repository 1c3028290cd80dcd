// The door into libberth_executor.so, as runtime/stream/loader_api.h is for the loader: a program
// that opens the library by name asks it for this table. Both sides must come from one build.
#pragma once

#include "runtime/exec/executor.h"

namespace berth {

inline constexpr int kExecutorApiVersion = 1;
inline constexpr const char* kExecutorDoor = "berth_executor_api";

struct ExecutorApi {
  int version = kExecutorApiVersion;
  RunReport (*run)(const Model&, const Plan&, const LoadedModel&, const RunOptions&) = nullptr;
};

}  // namespace berth

extern "C" __attribute__((visibility("default"))) const berth::ExecutorApi* berth_executor_api();

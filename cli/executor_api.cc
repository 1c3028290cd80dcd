// Compiled into libberth_executor.so.

#include "cli/executor_api.h"

const berth::ExecutorApi* berth_executor_api() {
  static const berth::ExecutorApi api{berth::kExecutorApiVersion, berth::run};
  return &api;
}

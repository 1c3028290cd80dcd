#include "runtime/door/executor_api.h"

const berth::ExecutorApi* berth_executor_api() {
  static const berth::ExecutorApi api{berth::kExecutorApiVersion, &berth::check_run, &berth::run,
                                      &berth::measure_compute};
  return &api;
}

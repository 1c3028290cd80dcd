#include "runtime/door/executor_api.h"

#include "planner/base/unfinished.h"

const berth::ExecutorApi* berth_executor_api() {
  static const berth::ExecutorApi api{
      berth::kExecutorApiVersion, &berth::check_run, &berth::why_not_as_stored,
      &berth::check_workload,     &berth::run,       &berth::remove_unfinished};
  return &api;
}

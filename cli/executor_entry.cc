// Compiled into libberth_executor.so: its side of cli/runtime_entry.h.

#include "cli/runtime_entry.h"

extern "C" __attribute__((visibility("default"))) const berth::ExecutorEntry*
berth_executor_entry() {
  static const berth::ExecutorEntry entry{BERTH_VERSION, &berth::run};
  return &entry;
}

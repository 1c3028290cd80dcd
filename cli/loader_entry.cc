// Compiled into libberth_loader.so: its side of cli/runtime_entry.h.

#include "cli/runtime_entry.h"

extern "C" __attribute__((visibility("default"))) const berth::LoaderEntry* berth_loader_entry() {
  static const berth::LoaderEntry entry{BERTH_VERSION, &berth::load, &berth::load_naively,
                                        &berth::host_memory};
  return &entry;
}

// How `berth` calls into the shared libraries that it opens on demand.
//
// Each library exports one C function that returns a table of functions. Values of C++ types cross,
// so both sides must come from one build: `version` is compared before anything else is used.
#pragma once

#include <cstdint>

#include "runtime/exec/executor.h"
#include "runtime/stream/loader.h"

namespace berth {

struct LoaderEntry {
  const char* version;  // BERTH_VERSION; first member in every version
  std::unique_ptr<LoadedModel> (*load)(const Model&, const Plan&, const LoadOptions&);
  NaiveReport (*load_naively)(const Model&);
  HostMemory (*host_memory)();
};

struct ExecutorEntry {
  const char* version;
  RunReport (*run)(const Model&, const Plan&, const LoadedModel&, const RunOptions&);
};

}  // namespace berth

extern "C" {
const berth::LoaderEntry* berth_loader_entry();
const berth::ExecutorEntry* berth_executor_entry();
}

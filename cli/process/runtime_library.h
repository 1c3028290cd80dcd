// The shared libraries of the runtime, opened when a command first needs them.
#pragma once

#include "runtime/door/executor_api.h"
#include "runtime/door/loader_api.h"
#include "runtime/door/reference_api.h"

namespace berth {

// libberth_loader.so, libberth_executor.so or libberth_reference.so from beside the executable or
// from ../lib, opened once and kept for the life of the process. Throws Error where it is absent (a
// build without the runtime), cannot be opened, or is of another version.
const LoaderApi& loader_library();
const ExecutorApi& executor_library();
const ReferenceApi& reference_library();

}  // namespace berth

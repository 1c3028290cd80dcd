#include "cli/process/runtime_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "berth/error.h"
#include "cli/process/signals.h"
#include "planner/base/self_path.h"

namespace berth {
namespace {

std::filesystem::path find_library(const std::string& name) {
  std::error_code error;
  const std::filesystem::path self = self_path();
  const std::filesystem::path folder = self.parent_path();
  for (const std::filesystem::path& candidate : {folder / name, folder / "../lib" / name}) {
    if (std::filesystem::exists(candidate, error)) return candidate.lexically_normal();
  }
  throw Error(fmt::format(
      "{} is neither beside {} nor in ../lib: this berth was built without libtorch, as Python's "
      "package is (build it by scripts/build, or configure with -DBERTH_RUNTIME=ON)",
      name, self.string()));
}

// Opens `name` and returns the table behind its door.
template <typename Api>
const Api& open_library(const std::string& name, const char* door, int version) {
  const std::filesystem::path path = find_library(name);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(fmt::format("{}: cannot be opened: {}", path.string(), ::dlerror()));
  const auto open = reinterpret_cast<const Api* (*)()>(::dlsym(library, door));
  if (!open) throw Error(fmt::format("{}: has no {}: not a library of berth", path.string(), door));
  const Api& api = *open();
  if (api.version != version) {
    throw Error(
        fmt::format("{}: has interface {}, this berth needs {}: install both from one build",
                    path.string(), api.version, version));
  }
  also_tidy_up(api.remove_unfinished);
  return api;
}

}  // namespace

const LoaderApi& loader_library() {
  static const LoaderApi& api =
      open_library<LoaderApi>("libberth_loader.so", kLoaderDoor, kLoaderApiVersion);
  return api;
}

const ExecutorApi& executor_library() {
  static const ExecutorApi& api =
      open_library<ExecutorApi>("libberth_executor.so", kExecutorDoor, kExecutorApiVersion);
  return api;
}

const ReferenceApi& reference_library() {
  static const ReferenceApi& api = []() -> const ReferenceApi& {
    // libtorch's threads spin in their barriers for milliseconds by default, which costs a factor
    // of ten where other work shares the cores. libgomp reads this once, when it is loaded. No
    // thread of ours calls getenv() now.
    ::setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/0);
    return open_library<ReferenceApi>("libberth_reference.so", kReferenceDoor,
                                      kReferenceApiVersion);
  }();
  return api;
}

}  // namespace berth

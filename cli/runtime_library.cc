#include "cli/runtime_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "planner/base/error.h"

namespace berth {
namespace {

std::filesystem::path find_library(const std::string& name, const char* command) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = self.parent_path();
  for (const std::filesystem::path& candidate : {folder / name, folder / "../lib" / name}) {
    if (std::filesystem::exists(candidate, error)) return candidate.lexically_normal();
  }
  throw Error(fmt::format(
      "{} needs {}, which is neither beside {} nor in ../lib: this is a build of the planner alone "
      "(configure with -DBERTH_RUNTIME=ON)",
      command, name, self.string()));
}

// Opens `name` and returns what its function `symbol` returns.
template <typename Entry>
const Entry& open_library(const std::string& name, const char* symbol, const char* command) {
  const std::filesystem::path path = find_library(name, command);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(fmt::format("{}: cannot be opened: {}", path.string(), ::dlerror()));
  const auto entry = reinterpret_cast<const Entry* (*)()>(::dlsym(library, symbol));
  if (!entry)
    throw Error(fmt::format("{}: has no {}: not a library of berth", path.string(), symbol));
  const Entry& table = *entry();
  if (std::string_view(table.version) != BERTH_VERSION) {
    throw Error(fmt::format("{}: is of version {}, berth of {}: install both from one build",
                            path.string(), table.version, BERTH_VERSION));
  }
  return table;
}

}  // namespace

const LoaderEntry& loader_library() {
  static const LoaderEntry& entry =
      open_library<LoaderEntry>("libberth_loader.so", "berth_loader_entry", "loading");
  return entry;
}

const ExecutorEntry& executor_library() {
  static const ExecutorEntry& entry =
      open_library<ExecutorEntry>("libberth_executor.so", "berth_executor_entry", "running");
  return entry;
}

}  // namespace berth

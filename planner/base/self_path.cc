#include "planner/base/self_path.h"

#include <sys/auxv.h>

#include <system_error>

namespace berth {

std::filesystem::path self_path() {
  std::error_code error;
  std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) return path;
  // What execve() was given, which is a path where a shell has searched $PATH.
  const auto* started = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  if (started == nullptr) return {};
  path = std::filesystem::canonical(started, error);
  return error ? std::filesystem::path() : path;
}

}  // namespace berth

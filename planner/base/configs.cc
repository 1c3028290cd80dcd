#include "berth/configs.h"

#include <cstdlib>
#include <string>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/base/self_path.h"

namespace berth {

namespace fs = std::filesystem;

namespace {

// Created at its first use, because programs may set it from static constructors, before main().
fs::path& chosen_dir() {
  static fs::path chosen;
  return chosen;
}

}  // namespace

void set_config_dir(fs::path folder) { chosen_dir() = std::move(folder); }

fs::path find_config_dir() {
  std::error_code ignored;
  // If the user set the variable, no other folder is tried: a typo in it must not go unnoticed.
  if (const char* chosen = std::getenv("BERTH_CONFIGS"); chosen != nullptr && *chosen != '\0') {
    if (!fs::is_directory(chosen, ignored)) {
      throw Error("BERTH_CONFIGS: " + quote(chosen) + " is not a folder");
    }
    return chosen;
  }
  if (!chosen_dir().empty() && fs::is_directory(chosen_dir(), ignored)) return chosen_dir();
  const fs::path exe = self_path();
  const fs::path installed = exe.parent_path().parent_path() / "share/berth/configs";
  if (!exe.empty() && fs::is_directory(installed, ignored)) return installed;
  const fs::path built_from = BERTH_SOURCE_CONFIGS;  // empty where sources are not to be looked for
  if (fs::is_directory(built_from, ignored)) return built_from;
  throw Error("no configs folder: there is no " + installed.string() +
              (built_from.empty() ? "" : " and no " + built_from.string()) +
              " (set BERTH_CONFIGS to the folder that holds architectures/)");
}

}  // namespace berth

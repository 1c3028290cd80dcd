// The command line of berth convert.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "cli/options/settings.h"

namespace berth {

struct ConvertCommand {
  std::filesystem::path in;
  std::filesystem::path out;
  std::optional<DTypeChoice> dtype;
  std::optional<std::uint64_t> max_shard;  // bytes
  std::optional<IoEngine> io;
  std::optional<std::uint64_t> staging;
  bool json = false;
};

// Adds the command to `app`; `options` must outlive the parsing.
CLI::App* add_convert_command(CLI::App& app, ConvertCommand& options);

}  // namespace berth

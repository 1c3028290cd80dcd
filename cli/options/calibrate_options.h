// The flags of `berth calibrate`, apart from those of the commands that take a model's plan.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace berth {

struct CalibrateOptions {
  std::filesystem::path model;                // its shards are read; empty: a file is made
  std::optional<std::filesystem::path> disk;  // where it is made; default: the current folder
  std::optional<std::filesystem::path> out;   // default: calibration_file()
  double seconds = 45;                        // to spend, roughly
  bool json = false;
};

// Adds the subcommand; `options` must outlive the parsing. Values that make no sense are usage
// errors of the parser.
CLI::App* add_calibrate_command(CLI::App& app, CalibrateOptions& options);

}  // namespace berth

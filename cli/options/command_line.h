// The command line: flags parsed with CLI11 by the option table, then merged with the deployment
// file, if one is named.
#pragma once

#include <optional>
#include <string>

#include "cli/options/options.h"

namespace berth {

// The result of parsing: either options to act on, or a text to print before the program ends
// (help, version).
struct CommandLine {
  std::optional<Options> options;
  std::string text;
};

// Parses the arguments and reads the deployment file where MODEL is a .yaml or .yml.
// Throws UsageError for a wrong call, such as a bad value of a flag, and Error for a wrong
// deployment file.
CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace berth

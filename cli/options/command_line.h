// The command line: flags parsed with CLI11 by the option table, then merged with the deployment
// file, if one is named.
#pragma once

#include <optional>
#include <string>

#include "cli/options/options.h"

namespace berth {

// What parsing came to: options to act on, or text to print before leaving (help, version).
struct CommandLine {
  std::optional<Options> options;
  std::string text;
};

// Parses the arguments and reads the deployment file where MODEL is a .yaml or .yml.
// Throws UsageError for a call that makes no sense, the value of a flag included, and Error for a
// file that does not.
CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace berth

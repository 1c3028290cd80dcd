// berth: parse, dispatch, and turn every error into one line on stderr.

#include <exception>
#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/options/command_line.h"
#include "cli/process/signals.h"
#include "cli/process/terminal.h"
#include "planner/base/output_file.h"

namespace {

int dispatch(int argc, char** argv) {
  const berth::CommandLine line = berth::parse_command_line(argc, argv);
  if (!line.options) {
    berth::write_stdout(line.text);
    return berth::kExitDone;
  }
  switch (line.options->command) {
    case berth::Command::kPlan:
      return berth::cmd_plan(*line.options);
    case berth::Command::kLoad:
      return berth::cmd_load(*line.options);
    case berth::Command::kRun:
      return berth::cmd_run(*line.options);
    case berth::Command::kCalibrate:
      return berth::cmd_calibrate(*line.options);
    case berth::Command::kConvert:
      return berth::cmd_convert(*line.options);
    case berth::Command::kChecksum:
      return berth::cmd_checksum(*line.options);
  }
  return berth::kExitUsage;
}

// Writes the message to stderr as exactly one line, whatever it holds, and returns `exit_code`.
int report(std::string message, int exit_code) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  berth::write_stderr("error: " + message + "\n");
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  berth::tidy_up_on_signals();
  try {
    return dispatch(argc, argv);
  } catch (const berth::UsageError& error) {
    return report(error.what(), berth::kExitUsage);
  } catch (const std::bad_alloc&) {
    return report("out of host memory", berth::kExitError);
  } catch (const std::exception& error) {
    return report(error.what(), berth::kExitError);
  }
}

// The command line: flags parsed with CLI11, then merged with the deployment file, if one is named.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/options/calibrate_options.h"
#include "cli/options/checksum_options.h"
#include "cli/options/convert_options.h"
#include "cli/options/settings.h"

namespace berth {

enum class Command { kPlan, kLoad, kRun, kCalibrate, kChecksum, kConvert };

// What a child process of `load --compare-naive` measures: the plain way, or the load as asked, or
// the load into private memory.
enum class Measure { kNaive, kFrugal, kPrivate };

struct Options {
  Command command = Command::kPlan;
  std::filesystem::path model;         // as given, or as the deployment file names it
  std::filesystem::path deployment;    // empty without one
  Settings settings;                   // flags over file
  std::vector<std::string> arguments;  // as given, without argv[0]

  // Flags only.
  bool json = false;
  bool verbose = false;
  bool print_device_map = false;              // plan
  bool llama_cpp = false;                     // plan
  bool vllm = false;                          // plan
  bool compare = false;                       // plan
  std::optional<std::string> dot;             // plan: a file, or "-"
  std::optional<std::string> svg;             // plan: a file, or "-"
  std::optional<std::filesystem::path> save;  // plan
  std::optional<std::filesystem::path> plan;  // load, run: a plan made earlier
  bool compare_naive = false;                 // load
  std::optional<Measure> measure;             // load, hidden
  CalibrateOptions calibrate;                 // calibrate, which uses nothing else of this
  ConvertCommand convert;                     // convert, likewise
  ChecksumOptions checksum;                   // checksum, likewise
};

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

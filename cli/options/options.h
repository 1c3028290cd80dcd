// What a command line says: the command, its model, and the value of every option.
//
// A member below is set by a row of the option table (option_table.cc). Those of Settings may also
// stand in a deployment file; the others are flags only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/options/settings.h"
#include "planner/export/exports.h"

namespace berth {

enum class Command { kPlan, kLoad, kRun, kCalibrate, kConvert, kChecksum };

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
  std::vector<ExportTool> exports;            // plan: the tools to write for
  bool compare = false;                       // plan
  std::optional<std::string> dot;             // plan: a file, or "-"
  std::optional<std::string> svg;             // plan: a file, or "-"
  std::optional<std::filesystem::path> save;  // plan
  std::optional<std::filesystem::path> plan;  // load, run: a plan made earlier
  bool compare_naive = false;                 // load
  std::optional<Measure> measure;             // load, hidden
  std::optional<std::filesystem::path> out;   // calibrate, checksum: a file; convert: a folder
  std::optional<std::filesystem::path> disk;  // calibrate: the folder whose disk is measured
  double seconds = 45;                        // calibrate: about how long to measure
  std::optional<std::uint64_t> max_shard;     // convert: bytes
  bool for_cpu = false;                       // convert: for the kernels of CPUs
};

}  // namespace berth

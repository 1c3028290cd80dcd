// What the flags of a command and a deployment file can both say.
//
// A row of the option table (option_table.cc) sets a member; deployment.h merges flags and file.
// A member is empty where neither of them gives a value; defaults are filled in where the values
// are used (Request, LoadOptions, RunOptions), never here, so that "given" and "default" stay
// apart.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "berth/error.h"
#include "berth/load.h"
#include "berth/plan.h"
#include "planner/model/precision/precision.h"
#include "runtime/kernels/choice.h"

namespace berth {

// A mistake in how the command was called: exit 64 instead of 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

// --dtype: "auto" keeps what is stored, so it is a choice of its own.
struct DTypeChoice {
  std::optional<DType> dtype;  // nullopt: auto, or `made_anew`
  // A precision that the weights would have to be quantised to first; plan alone can take it.
  const Precision* made_anew = nullptr;
};

// Bytes to leave free beside the ledger; an empty device name means every GPU.
struct Reserve {
  std::string device;
  std::uint64_t bytes = 0;
};

using MachineChoice = std::variant<std::filesystem::path, Machine>;  // a file, or written inline
using DeviceMapChoice = std::variant<std::filesystem::path, DeviceMap>;  // likewise

struct Settings {
  // Where the weights go.
  std::optional<Policy> policy;
  std::optional<MachineChoice> machine;
  std::optional<std::vector<Budget>> max_memory;
  std::optional<DeviceMapChoice> device_map;
  std::optional<DTypeChoice> dtype;
  std::optional<bool> dequantize;
  std::optional<bool> mtp;
  std::optional<std::vector<Reserve>> reserve;
  std::optional<std::vector<std::string>> excluded;
  std::optional<std::vector<Priority>> priority;
  std::optional<std::vector<std::string>> no_split;
  std::optional<bool> never_offload;
  std::optional<std::vector<Override>> overrides;

  // Many plans side by side.
  std::optional<std::vector<std::filesystem::path>> across;  // machines: names and files
  std::optional<std::vector<const Precision*>> dtypes;
  std::optional<double> want;  // tokens a second

  // The workload.
  std::optional<std::uint64_t> batch;
  std::optional<std::uint64_t> context;
  std::optional<std::uint64_t> prompt_tokens;
  std::optional<std::uint64_t> new_tokens;
  std::optional<DType> kv_dtype;

  // How the weights get there.
  std::optional<CpuMemory> cpu_memory;
  std::optional<bool> prefault;
  std::optional<IoEngine> io;
  std::optional<std::uint64_t> staging;
  std::optional<bool> emulate;
  std::optional<bool> verify;
  std::optional<std::filesystem::path> checksums;  // a file; its presence is to verify
  std::optional<std::filesystem::path> offload_folder;

  // What is generated.
  std::optional<std::vector<std::string>> prompts;
  std::optional<std::vector<std::vector<std::int64_t>>> prompt_ids;
  std::optional<std::uint64_t> tokens;  // -n
  std::optional<std::filesystem::path> logits;
  std::optional<bool> stop_at_eos;
  std::optional<Kernels> kernels;
  std::optional<ActivationBits> activations;
  std::optional<std::filesystem::path> profile;
};

}  // namespace berth

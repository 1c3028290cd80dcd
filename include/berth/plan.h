// What is asked of the planner (Request) and what it answers (Plan): plain values.
//
// A model that does not fit is a Plan too, with `shortfall` set; it is never an exception.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/machine.h"
#include "berth/model.h"

namespace berth {

enum class Policy : std::uint8_t {
  kAuto,
  kBalanced,
  kBalancedLow0,
  kSequential,
  kThroughput,
  kDeviceMap /* given by the user */
};
std::string_view policy_name(Policy policy);  // "auto", "balanced_low_0", ...
std::optional<Policy> parse_policy(std::string_view name);

enum class CpuMemory : std::uint8_t { kMmap, kPrivate, kPinned };
std::string_view cpu_memory_name(CpuMemory mode);
std::optional<CpuMemory> parse_cpu_memory(std::string_view name);

// What the model will be asked to do; `auto` plans for it.
struct Workload {
  std::uint64_t batch = 1;    // Default: 1
  std::uint64_t context = 0;  // positions of KV cache. Default 0: min(4096, model's maximum)
  std::uint64_t prompt_tokens = 512;  // Default: 512
  std::uint64_t new_tokens = 128;     // Default: 128
  std::optional<DType> kv_dtype;      // Default: the dtype of the weights, 16-bit if that is wider
};

// One entry of --max-memory, in the order given.
struct Budget {
  std::string device;
  std::uint64_t bytes = 0;
};

// How soon `auto` takes a GPU: one of a lower level only where the higher ones cannot hold the
// model.
struct Priority {
  std::string device;
  int level = 0;  // Default of devices that nobody named: 0
};

// A per-pattern placement override; `match` is a glob over module and tensor names (*, ?, [..]).
struct Override {
  std::string match;
  std::string device;
};

// One key of a Hugging Face device_map, in file order. "" covers everything.
struct DeviceMapEntry {
  std::string module;
  std::string device;
};
using DeviceMap = std::vector<DeviceMapEntry>;

// Who computes what stands on a disk: the CPU, or the largest GPU.
enum class DiskRunner : std::uint8_t { kHost, kGpu };

struct Request {
  Policy policy = Policy::kAuto;
  std::optional<std::vector<Budget>> max_memory;
  std::optional<DeviceMap> device_map;  // set: use and price this map instead of a policy
  std::vector<Override> overrides;
  std::vector<std::string> excluded;  // devices that must stay empty
  std::vector<Priority> priority;     // devices that `auto` takes sooner or later than the others
  std::vector<std::string> no_split;  // globs over module and class names that stay on one device
  bool never_offload = false;         // only GPUs, or it does not fit
  // Default: whichever makes a model that fills the host's RAM run sooner; the other one where
  // nothing fits otherwise.
  std::optional<DiskRunner> disk_runner;
  Workload workload;
  CpuMemory cpu_memory = CpuMemory::kMmap;
  std::uint64_t staging = 128ull << 20;  // bytes of staging while loading
};

// capacity = reserved + weights + kv_cache + workspace + free, in bytes; a device that does not fit
// has free = 0 and the rest in `over`.
struct DeviceLedger {
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
  std::uint64_t capacity = 0;
  std::uint64_t reserved = 0;  // context overhead + reserve
  std::uint64_t weights = 0;
  std::uint64_t kv_cache = 0;
  std::uint64_t workspace = 0;  // activations, logits, offload buffers
  std::uint64_t free = 0;
  std::uint64_t over = 0;
};

// A module placed whole, in execution order. Runs of equal neighbours are collapsed when printed.
struct ModulePlacement {
  ModuleId module = kNone;
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t bytes = 0;
  std::string reason;
};

struct LoadPeak {
  std::uint64_t host_bytes = 0;        // anonymous + shared memory above the baseline
  std::uint64_t naive_host_bytes = 0;  // whole state dict beside a built model
};

// What one device adds to an estimate: the units that run there, wherever their weights are.
struct Stage {
  std::uint32_t device = 0;  // index into Plan::devices
  double prefill_seconds = 0;
  double seconds_per_token = 0;
  // What the seconds are spent on, each token and the prompt: "memory bandwidth", "FLOP/s",
  // "link cpu -> gpu 0", "disk reads".
  std::string prefill_limit;
  std::string token_limit;
};

// All zero where the machine's speeds or the model's facts are unknown.
struct Estimate {
  std::vector<Stage> stages;  // devices that compute, in machine order; with the hops they add up
  double hops_prefill_seconds = 0;  // activations on their way between devices
  double hops_seconds_per_token = 0;
  double prefill_seconds = 0;
  double seconds_per_token = 0;
  double score_seconds = 0;  // prefill + new_tokens x seconds_per_token
  // (score - lower bound) / score, where no placement of whole units on the devices considered,
  // contiguous or not, scores below the bound; 0: proven optimal. `throughput`: the same of the
  // slowest device. Nothing for the other policies, which prove nothing, and for what does not fit.
  std::optional<double> optimality_gap;
};

struct Shortfall {
  // `auto`, `throughput`: the least memory that, added to one device, makes it fit, and what
  // overrides fill beyond their devices. Other policies and maps: the sum of what devices are over.
  // Weights off the GPUs with never_offload; what loading lacks on the host.
  std::uint64_t bytes = 0;
  std::string cause;                     // the constraint or resource that stands in the way
  std::vector<std::string> suggestions;  // each was planned again, and fits; the smallest first
};

struct Plan {
  Policy policy = Policy::kAuto;
  std::string machine;                       // Machine::source
  std::vector<DeviceLedger> devices;         // every device considered, in machine order
  std::vector<std::uint32_t> tensor_device;  // by TensorId; index into devices; kNone: unplaced
  std::vector<ModulePlacement> placement;
  DeviceMap device_map;  // Hugging Face form, covering every tensor that is placed
  Workload workload;     // defaults filled in
  CpuMemory cpu_memory = CpuMemory::kMmap;
  std::uint64_t staging = 0;
  LoadPeak load_peak;
  Estimate estimate;
  std::uint32_t streamer = kNone;  // the GPU that layers in host RAM are streamed through, or kNone
  std::uint64_t stream_buffer_bytes = 0;  // of each of its two buffers, within its workspace
  std::uint32_t disk_runner = kNone;  // who computes what stands on the disk; kNone: nothing does
  std::optional<Shortfall> shortfall;
  std::vector<std::string> notes;  // oddities worth a line: untied pairs, ignored keys

  bool fits() const { return !shortfall; }
};

// A machine known only from --max-memory: each device has that much room and default speeds;
// `disk` is always there.
Machine budget_machine(const std::vector<Budget>& budgets);

// Hugging Face device_map JSON: {"model.embed_tokens": 0, "lm_head": "cpu"}.
DeviceMap parse_device_map(std::string_view json, const std::string& source);
DeviceMap read_device_map(const std::filesystem::path& file);
std::string device_map_json(const DeviceMap& map);  // GPUs as numbers, others as strings

// The device of the tensor or module `name`: the longest key that is the name, or a dotted prefix
// of it, or a regular expression matching it; "" matches all. Null where nothing covers it.
const std::string* lookup(const DeviceMap& map, std::string_view name);

}  // namespace berth

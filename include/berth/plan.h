// What is asked of the planner (Request) and what it answers (Plan): plain values.
//
// A model that does not fit is a Plan, too, with `shortfall` set; it is never an exception. Devices
// are named "0", "1", ... (GPUs), "cpu" and "disk"; further NUMA nodes are "cpu:1", ...
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

// How units are placed. The first and the fifth are Berth's own; the three between them give what
// Accelerate's policy of the same name gives.
enum class Policy : std::uint8_t {
  kAuto,          // the least time for the workload
  kBalanced,      // about the same bytes on each GPU
  kBalancedLow0,  // the same, with little on GPU 0
  kSequential,    // the first GPU is filled, then the next
  kThroughput,    // the slowest stage of a pipeline is as fast as can be
  kDeviceMap,     // by a map that the user gave; a Plan says so, a Request never asks for it
};
std::string_view policy_name(Policy policy);  // "auto", "balanced_low_0", ...
// The inverse, for the policies that can be asked for; nothing for any other text.
std::optional<Policy> parse_policy(std::string_view name);
// The names of the policies that can be asked for, for messages.
std::vector<std::string_view> policy_names();

// What a tensor in host RAM is once it is loaded.
enum class CpuMemory : std::uint8_t {
  kMmap,     // a read-only mapping of its file; a private copy where it must be converted
  kPrivate,  // memory of the process
  kPinned,   // page-locked memory, which GPUs read fastest
};
std::string_view cpu_memory_name(CpuMemory mode);                  // "mmap", ...
std::optional<CpuMemory> parse_cpu_memory(std::string_view name);  // the inverse
std::vector<std::string_view> cpu_memory_names();

// What the model will be asked to do. `auto` and `throughput` plan for it, and estimates are of it.
struct Workload {
  std::uint64_t batch = 1;  // sequences that are computed at once. Default: 1
  // Positions of KV cache for each sequence. Default: 4096, or the model's maximum if it is less
  std::uint64_t context = 0;
  std::uint64_t prompt_tokens = 512;  // Default: 512
  std::uint64_t new_tokens = 128;     // Default: 128
  // Of the KV cache. Default: the dtype of the weights, or a 16-bit one if theirs is wider
  std::optional<DType> kv_dtype;
  // In a Plan: whether kv_dtype was asked for, so that other tools are told. Default: false
  bool kv_dtype_asked = false;
};

// The most bytes of weights on a device, as Accelerate's max_memory.
struct Budget {
  std::string device;
  std::uint64_t bytes = 0;
};

// When `auto` uses a GPU: one of a lower level is used only if those of higher levels cannot hold
// the model.
struct Priority {
  std::string device;
  int level = 0;  // a GPU that has no Priority is of level 0
};

// Modules and tensors whose names match the glob `match` (*, ?, [..]) go to `device`.
struct Override {
  std::string match;
  std::string device;
};

// An entry of a Hugging Face device_map. The key covers the module of that name and all below it;
// "" covers everything; a regular expression may stand for a name.
struct DeviceMapEntry {
  std::string module;
  std::string device;
};
using DeviceMap = std::vector<DeviceMapEntry>;  // in the order of the file

// Who computes what stands on a disk: the CPU, or the largest GPU.
enum class DiskRunner : std::uint8_t { kHost, kGpu };

// What make_plan() is asked for. A Request as it is constructed asks for the quickest plan of the
// default workload on all devices.
struct Request {
  Policy policy = Policy::kAuto;  // Default: kAuto
  // Budgets, in the order given. A device that is not named has no limit with `auto` and
  // `throughput`, and is not used by Accelerate's policies, except the disk. Default: no limits.
  std::optional<std::vector<Budget>> max_memory;
  // Where it is set, the plan follows this map instead of a policy. Default: not set.
  std::optional<DeviceMap> device_map;
  std::vector<Override> overrides;    // the first that matches wins. Default: none
  std::vector<std::string> excluded;  // devices that must stay empty. Default: none
  std::vector<Priority> priority;     // Default: all GPUs are of level 0
  // Globs over names and classes: modules that match one stay on one device. Default: the classes
  // that the model names itself
  std::vector<std::string> no_split;
  // Weights go on GPUs only. If these cannot hold all, the plan does not fit. Default: false
  bool never_offload = false;
  // Whether a plan that does not fit looks for its cause and for changes that would make it fit:
  // each is planned, which takes several times as long as the plan. Default: true
  bool suggest = true;
  // Default: the CPU, or the largest GPU if the host's RAM is so small or so slow that the model
  // runs sooner without it; the other of the two if nothing fits otherwise.
  std::optional<DiskRunner> disk_runner;
  Workload workload;
  CpuMemory cpu_memory = CpuMemory::kMmap;  // Default: kMmap
  std::uint64_t staging = 128ull << 20;     // bytes of the buffers for loading. Default: 128 MiB
};

// What a device's bytes are used for: capacity = reserved + weights + kv_cache + workspace + free.
// If a plan needs more than the device has, `free` is 0 and `over` says how much more it needs.
struct DeviceLedger {
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
  std::uint64_t capacity = 0;
  std::uint64_t reserved = 0;  // Device::reserve, and what a CUDA context takes
  std::uint64_t weights = 0;
  std::uint64_t kv_cache = 0;
  std::uint64_t workspace = 0;  // activations, logits, buffers for streaming
  std::uint64_t free = 0;
  std::uint64_t over = 0;
};

// A module that is on one device as a whole.
struct ModulePlacement {
  ModuleId module = kNone;
  std::uint32_t device = 0;  // index into Plan::devices
  std::uint64_t bytes = 0;   // of its weights
  std::string reason;        // why it is there: half a sentence for people
};

// The most host memory, in bytes, while the model is loaded.
struct LoadPeak {
  std::uint64_t host_bytes = 0;        // anonymous + shared memory above the baseline
  std::uint64_t naive_host_bytes = 0;  // of the plain way: a state dict beside a built model
};

// The part of an estimate that one device computes, wherever the weights for it are.
struct Stage {
  std::uint32_t device = 0;  // index into Plan::devices
  double prefill_seconds = 0;
  double seconds_per_token = 0;
  // What limits the prompt and each token: "memory bandwidth", "FLOP/s", "link cpu -> gpu 0" or
  // "disk reads".
  std::string prefill_limit;
  std::string token_limit;
};

// How long the workload takes, in seconds; all zero where the speeds of the machine or the facts of
// the model are unknown. The stages and the hops add up to the whole.
struct Estimate {
  std::vector<Stage> stages;        // one for each device that computes, in the machine's order
  double hops_prefill_seconds = 0;  // activations on their way between devices
  double hops_seconds_per_token = 0;
  double prefill_seconds = 0;
  double seconds_per_token = 0;
  double score_seconds = 0;  // prefill + new_tokens x seconds_per_token
  // How far from the best this plan may be at most: (score - bound) / score, where no placement of
  // whole units on the devices that were considered scores below the bound. 0 means that it is
  // proven to be the best. For `throughput` it compares the time of the slowest stage instead of
  // the score. Nothing for the other policies, which prove nothing, if the model does not fit, and
  // where figures of the model are guessed.
  std::optional<double> optimality_gap;
  // The same by figures of which some are guessed (Plan::guessed). It proves nothing of the model.
  std::optional<double> guessed_gap;
};

// Why a model does not fit.
struct Shortfall {
  // What is missing. For `auto` and `throughput`, the least memory that makes the model fit when it
  // is added to one device, and what overrides put on devices beyond their capacity. For other
  // policies and for maps, the sum of DeviceLedger::over. With never_offload, the weights that are
  // not on GPUs. Where loading lacks host memory, what it lacks.
  std::uint64_t bytes = 0;
  std::string cause;  // the device, budget or setting that stands in the way, for people
  // What to change on the command line. Each was planned and fits; the smallest change comes first.
  std::vector<std::string> suggestions;
};

// Where everything goes. Plan::devices are rows for devices of the machine; other members name them
// by their index.
struct Plan {
  Policy policy = Policy::kAuto;
  std::string machine;                       // Machine::source
  std::vector<DeviceLedger> devices;         // every device considered, in machine order
  std::vector<std::uint32_t> tensor_device;  // by TensorId; index into devices; kNone: not placed
  std::vector<ModulePlacement> placement;    // in the order in which the modules run
  DeviceMap device_map;  // the same, as Hugging Face writes it; covers every tensor that is placed
  // The same once more if host RAM is several NUMA nodes, which `device_map` calls `cpu`, as other
  // tools do: here they are "cpu:0", "cpu:1", ... Empty where there is one.
  DeviceMap node_map;
  Workload workload;  // defaults filled in
  CpuMemory cpu_memory = CpuMemory::kMmap;
  std::uint64_t staging = 0;
  LoadPeak load_peak;
  Estimate estimate;
  std::uint32_t streamer = kNone;  // the GPU that layers in host RAM are streamed through, or kNone
  std::uint64_t stream_buffer_bytes = 0;  // of each of its two buffers; they are in its workspace
  std::uint32_t disk_runner = kNone;  // who computes what stands on the disk; kNone: nothing does
  std::optional<Shortfall> shortfall;
  // Whether figures of the model are guessed (ModelTree::guesses), and so whether it fits.
  bool guessed = false;
  std::vector<std::string> notes;  // what a user should know, one line each

  bool fits() const { return !shortfall; }
};

// A machine of which only budgets are known: each device has that much space for weights, and
// default speeds; there is always a disk. Throws Error for a name that is given twice or unknown.
Machine budget_machine(const std::vector<Budget>& budgets);

// A Hugging Face device map from JSON: {"model.embed_tokens": 0, "lm_head": "cpu"}; or, as
// transformers takes it, a device for the whole model or the name of a policy ("cuda:1", "auto"),
// which becomes the map {"": "1"} or {"": "auto"}. Error messages call it `source`. Throws Error,
// naming the key, if an entry is malformed, and if the map is empty.
DeviceMap parse_device_map(std::string_view json, const std::string& source);
DeviceMap read_device_map(const std::filesystem::path& file);
// The inverse: GPUs are numbers, other devices are strings.
std::string device_map_json(const DeviceMap& map);

// The device of the module or tensor `name`, by the longest key that is the name or a dotted prefix
// of it, or a regular expression that matches it. Null where no key covers it; else it points into
// `map`. Throws Error for a key that is neither a name nor a regular expression.
const std::string* lookup(const DeviceMap& map, std::string_view name);

}  // namespace berth

// The hardware that a plan is made for: devices, links, and what is free on them.
//
// A machine comes from probe_machine(), from a machine file or from budgets (budget_machine() in
// plan.h), or is put together by hand. fill_defaults() then adds what is not known. All are plain
// values, and the functions may be called from several threads at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

enum class DeviceKind : std::uint8_t {
  kCuda,   // a GPU of NVIDIA
  kOther,  // a GPU of another maker: Berth plans for it, but cannot load to it
  kCpu,    // host RAM, or one NUMA node of it
  kDisk,
};
std::string_view device_kind_name(DeviceKind kind);  // "cuda", "other", "cpu", "disk"
// Whether devices of this kind compute in memory of their own, and are called by numbers.
constexpr bool is_gpu(DeviceKind kind) {
  return kind == DeviceKind::kCuda || kind == DeviceKind::kOther;
}

// What the kernels of `berth run` reach on a CPU, all its processors together. Parts that are not
// known are empty or 0: then the rates of the Device stand for them.
struct KernelRates {
  // Figures for some numbers of positions that are computed at once. Between two numbers the time
  // is interpolated.
  using ByPositions = std::map<std::uint32_t, double>;
  // By the name of the weights' format ("bfloat16", "q4_k").
  using ByFormat = std::map<std::string, ByPositions, std::less<>>;

  ByFormat products;  // bytes of weights that products read in a second
  // The same for matrices of more columns than kNarrow: their activations leave the first cache.
  // Where it is empty, `products` stands for these, too.
  ByFormat wide;
  // Seconds that a product takes beside these: threads that begin and end together, activations
  // that are made ready.
  ByFormat starts;
  double attention = 0;  // bytes of a 16-bit KV cache that attention of one position reads in
                         // a second
  double prompt_attention = 0;  // FLOP/s of attention among the positions of a prompt
  double layer = 0;             // seconds that a layer takes beside all these

  static constexpr std::uint64_t kNarrow = 3072;

  bool operator==(const KernelRates&) const = default;
};

// Rates that are unknown are 0 until fill_defaults() has run, whose comment says the defaults.
struct Device {
  // "0", "1", ... (GPUs, by CUDA ordinal), "cpu", "disk". If host RAM is on several NUMA nodes,
  // each is a device: "cpu", "cpu:1", ...
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
  std::uint64_t capacity = 0;   // bytes that are usable now: free when probed, or as a file says
  std::uint64_t total = 0;      // bytes installed; = capacity where only that is known
  std::uint64_t reserve = 0;    // bytes to leave free beside all that a plan counts
  double memory_bandwidth = 0;  // bytes/s; sequential reads for the disk
  double flops = 0;             // FLOP/s of dense 16-bit products; 0 for the disk
  // Bytes of weights that a matrix-vector product reads in a second, by torch dtype name
  // ("bfloat16"). This is what a token costs where computing, not memory, is the limit. Empty where
  // memory_bandwidth is the limit.
  std::map<std::string, double, std::less<>> matvec;
  KernelRates kernels;      // of a CPU: they outrank the rates above
  std::string description;  // "NVIDIA H200", "" where unknown
  std::string uuid;         // of a GPU, "" where unknown
  std::string pci_bus_id;   // of a probed GPU
  bool probed = false;      // found on this machine, not described
  int node = -1;            // of a probed CPU: its NUMA node; -1 where that does not matter
  bool bare = false;        // of a probed CPU: a node of memory without processors, such as CXL
};

// A way for bytes between two devices, in one direction. Where a pair has no link, bytes go through
// the CPU.
struct Link {
  std::string from;  // names of devices
  std::string to;
  double bandwidth = 0;  // bytes/s
  double latency = 0;    // seconds
};

// When and where a machine file was measured: `berth calibrate` writes it as the key `calibrated`.
struct Calibrated {
  std::string date;      // "2026-11-21"
  std::string host;      // "" where unknown
  std::string berth;     // version that measured
  unsigned threads = 0;  // that the CPU's figures were measured with; 0 where unknown
};

// What it costs to have a machine for an hour.
struct Price {
  double an_hour = 0;
  std::string currency;  // "USD"; "" where nothing says
};

struct Machine {
  std::string source;           // "this machine" or the file's name
  std::vector<Device> devices;  // GPUs by ordinal, then "cpu" ("cpu:1", ...), then "disk"
  std::vector<Link> links;
  std::vector<std::string> notes;        // what probing left out or had to guess, one line each
  std::optional<Calibrated> calibrated;  // of a file that was measured
  std::optional<Price> price;            // of one that can be rented

  // Null where there is none. Both point into this Machine.
  const Device* find(std::string_view name) const;
  const Link* find_link(std::string_view from, std::string_view to) const;
  // Capacity of host RAM, in bytes: of all its NUMA nodes together.
  std::uint64_t host_capacity() const;
};

// Fills in what a description leaves out; what it says stays as it is. A second call changes
// nothing. Rates that are 0 become:
//   GPUs  the published figures of the GPU that `description` names, else 1 TB/s and 150 TFLOP/s
//   cpu   50 GB/s and 1 TFLOP/s (a probed CPU comes with an estimate from its cores)
//   disk  2 GB/s, no FLOPs
// Links: every GPU and the disk get one to "cpu" and one back. If only one direction is missing, it
// gets the bandwidth and latency of the other. If both are, a GPU's get 80 % of PCIe x16 of its
// generation (if that is unknown, of gen 4: 25 GB/s) and 10 us, and the disk's its own rate and
// 100 us. No link between GPUs is made up. A further NUMA node gets links to "cpu" with half the
// memory bandwidth of the slower of the two, and 200 ns.
void fill_defaults(Machine& machine);

// Reads a machine file; docs/guide.md has more on it. It is YAML, a mapping with
//   devices     a list of {name, kind, capacity, reserve, memory_bandwidth, flops, matvec,
//               description, uuid}; name and capacity are needed, kind follows from the name, and
//               that of a GPU is cuda unless the file says other;
//               matvec maps torch dtype names to bandwidths
//               Further NUMA nodes are called cpu:1, cpu:2, ...
//   links       a list of {from, to, bandwidth, latency}, one direction each, or of
//               {among: [names], bandwidth, latency} for every pair of these, both ways
//   calibrated  {date, host, berth, threads}: where the figures come from
//   price       what the machine costs for an hour: "2.49/h", "2.49 EUR/h"
// `name` is a path, or the bare name of a file that Berth comes with ("h200"). Devices come sorted:
// GPUs by ordinal, cpu, disk. Does not fill in defaults. Throws Error with file, line and field.
Machine read_machine_file(const std::filesystem::path& name);

// This machine, as it is now: GPUs through NVML (no CUDA context is made), as CUDA_VISIBLE_DEVICES
// shows them, by index or UUID; host RAM as the smallest of MemAvailable and every limit of a
// control group above this process, divided by NUMA nodes (planner/machine/nodes.h); disk space at
// `folder`. Absent hardware is no error: what could not be asked is in `notes`.
Machine probe_machine(const std::filesystem::path& folder);

}  // namespace berth

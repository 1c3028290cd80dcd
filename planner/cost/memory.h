// The memory model: how many bytes each device holds, while the model loads and afterwards.
//
// capacity = reserved + weights + kv_cache + workspace + free. If a device holds more than its
// capacity, free is 0 and `over` says by how much. `reserved` is the CUDA context with its
// libraries (kCudaContext) and the device's own reserve. Weights count where they are placed, in
// their dtype in memory; a tied tensor counts once on each device. Buffers that no checkpoint
// stores (rotary frequencies) count as workspace, so that `weights` is exactly what a load brings.
// KV cache and workspace count where a unit runs; units on the disk run on the host or on a GPU
// (time.h). The formulas are in chain.h. All functions are pure.
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "berth/machine.h"
#include "planner/cost/chain.h"
#include "planner/cost/time.h"
#include "planner/plan/budget.h"

namespace berth {

// Bytes that a CUDA context with its libraries is taken to need on a GPU. Those of other makers are
// taken to need as much.
inline constexpr std::uint64_t kCudaContext = 512ull << 20;

// Makes sums count tensors that share storage once a device. Asking about a tensor that shares none
// costs almost nothing. One object serves one sum; not thread-safe.
class SharedStorage {
 public:
  explicit SharedStorage(const ModelTree& tree);
  // True if the storage of `tensor` was not asked about on `device` before.
  bool first(std::uint32_t device, TensorId tensor) {
    return tied_.empty() || !tied_[tensor] || add(device, tensor);
  }

 private:
  bool add(std::uint32_t device, TensorId tensor);

  const ModelTree& tree_;
  std::vector<bool> tied_;  // by TensorId; empty where nothing is tied
  std::set<std::pair<std::uint32_t, TensorId>> seen_;
};

// What streaming (pricing.h) takes of each device, by device. Both lists are empty if nothing
// streams.
struct StreamBuffers {
  std::vector<std::uint64_t> bytes;       // of one stream buffer; a GPU has two
  std::vector<std::uint64_t> activation;  // bytes of workspace of the units that stream there
};

// What a device offers, in bytes.
struct Space {
  std::uint64_t reserved = 0;               // not for the model
  std::uint64_t bytes = 0;                  // for weights, KV cache and workspace
  std::uint64_t weight_bytes = kUnlimited;  // for weights alone, if a budget limits them
  bool budget_only = false;  // only its budget is known: weights are limited, nothing else
};

// The space of each of Machine::devices. Budgets of --max-memory limit weights; a device that no
// budget names has no such limit. The budget of `cpu` is one of all NUMA nodes together that have
// none of their own.
std::vector<Space> device_spaces(const Machine& machine, const Request& request);

struct Ledger {
  std::vector<DeviceLedger> devices;
  std::vector<std::uint64_t> activation;  // by device: the bytes of workspace that activations take
  // By how many bytes devices are over their capacity or their budget, summed over the devices.
  std::uint64_t short_bytes = 0;
};

// The memory of every device under a placement (`tensor_device`: by TensorId, kNone: unplaced).
// `buffers`: what streaming takes of each device. A device that holds nothing and is smaller than
// its `reserved` is not over: its reserved bytes are then cut to its capacity.
Ledger make_ledger(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<Space>& spaces, const TimeModel& time,
                   const std::vector<std::uint32_t>& tensor_device,
                   const StreamBuffers& buffers = {});

// How many bytes of the `staging` the scales and tables of dequantised weights may take together: a
// quarter of it, or `largest` if the tables of one weight need more. 0 if there are none (`largest`
// is 0).
std::uint64_t table_share(std::uint64_t staging, std::uint64_t largest);

// The most staging that a load uses for bytes that end in private host RAM unchanged: twenty
// buffers of 512 KiB, each with a block of 4 KiB at either end, which O_DIRECT needs.
inline constexpr std::uint64_t kMostBounced = 20 * ((512u << 10) + 2 * 4096);

// Host memory that a load takes. host_bytes: the weights that stay in private memory of the host
// (all of them in `private` and `pinned` mode, in `mmap` mode only those that are converted), and
// the staging. Of the staging no more counts than the bytes that pass through it: those for GPUs,
// those that are converted, and at most kMostBounced of those that stay as they are.
// naive_host_bytes: what it takes to load the state dict as stored and to keep the built model
// beside it.
LoadPeak load_peak(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<std::uint32_t>& tensor_device, CpuMemory mode,
                   std::uint64_t staging);

}  // namespace berth

// The memory model: what stands on each device, to the byte, while the model loads and afterwards.
//
// capacity = reserved + weights + kv_cache + workspace + free, or free = 0 and the rest in `over`.
// reserved is the CUDA context with its libraries (kCudaContext) and the device's own reserve.
// Weights count as placed, in their dtype in memory, a tied tensor once a device; buffers that no
// checkpoint stores (rotary frequencies) are workspace, so weights are what a load brings. KV cache
// and workspace stand where a layer runs: units on disk run on the host. Formulas: chain.h.
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

inline constexpr std::uint64_t kCudaContext = 512ull << 20;

// Tells bytes that a device holds already: of tensors that share storage, the first on each device
// counts. Tensors that share none cost nothing to ask about.
class SharedStorage {
 public:
  explicit SharedStorage(const ModelTree& tree);
  // True the first time that the storage of `tensor` is asked about on `device`.
  bool first(std::uint32_t device, TensorId tensor) {
    return tied_.empty() || !tied_[tensor] || add(device, tensor);
  }

 private:
  bool add(std::uint32_t device, TensorId tensor);

  const ModelTree& tree_;
  std::vector<bool> tied_;  // by TensorId; empty where nothing is tied
  std::set<std::pair<std::uint32_t, TensorId>> seen_;
};

// What streaming takes of each device, by device; empty where nothing streams (pricing.h).
struct StreamBuffers {
  std::vector<std::uint64_t> bytes;       // of one buffer; two are kept
  std::vector<std::uint64_t> activation;  // workspace of what is run there while it streams
};

// What a device offers.
struct Space {
  std::uint64_t reserved = 0;
  std::uint64_t bytes = 0;                  // for weights, KV cache and workspace
  std::uint64_t weight_bytes = kUnlimited;  // for weights, where a budget limits them
  bool budget_only = false;  // known from its budget alone: weights are all that is limited
};

// By Machine::devices. Budgets limit weights; devices that no budget names are not limited.
std::vector<Space> device_spaces(const Machine& machine, const Request& request);

struct Ledger {
  std::vector<DeviceLedger> devices;
  std::vector<std::uint64_t> activation;  // by device: of the workspace, that of activations
  std::uint64_t short_bytes = 0;  // all that devices are over, and weights over their budgets
};

// `buffers`: what streaming takes of each device; empty where nothing streams.
Ledger make_ledger(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<Space>& spaces, const TimeModel& time,
                   const std::vector<std::uint32_t>& tensor_device,
                   const StreamBuffers& buffers = {});

// Of `staging`, what the scales and tables of dequantised weights may take together; more where the
// largest of one weight, `largest`, needs it. 0 where there are none.
std::uint64_t table_share(std::uint64_t staging, std::uint64_t largest);

// What bytes on their way from the disk to private host RAM pass through at most: twenty buffers of
// 512 KiB and a block at either end (runtime/stream/bounce.h).
inline constexpr std::uint64_t kMostBounced = 20 * ((512u << 10) + 2 * 4096);

// Host memory while loading: bytes that stay private in host RAM (all of them in `private` and
// `pinned` mode, in `mmap` mode only what is converted), and the staging, of which no
// more is used than passes through it: bytes for GPUs, bytes converted, and kMostBounced.
// The naive way: the state dict as stored, and the built model beside it.
LoadPeak load_peak(const ModelTree& tree, const Machine& machine, const Chain& chain,
                   const std::vector<std::uint32_t>& tensor_device, CpuMemory mode,
                   std::uint64_t staging);

}  // namespace berth

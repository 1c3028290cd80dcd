// The time model: how many seconds a piece of a unit takes on a device, worked out from the
// device's rates (a roofline: the slower of memory and computing decides).
//
// A token (decode) takes max(bytes read / memory bandwidth, FLOPs / FLOP rate). Read are all dense
// weights, the share 1 - (1 - k/E)^batch of the experts (k of E experts a token), one row of the
// embedding, and the KV cache of the prompt and half the new tokens, or of the window if that is
// smaller. FLOPs are 2 for each active parameter and 4 for each attended position and channel. If a
// device's matrix-vector rate was measured, weights are read at that rate. The prompt (prefill)
// takes one pass over the bytes and the FLOPs of all its positions; the head runs for the last
// position of each sequence only.
//
// Where the rates of a CPU's kernels were measured (Device::kernels), these decide instead of the
// roofline: a token takes, for the matrices of each format, their bytes by the rate of that format
// for as many positions as the batch has, and what each product takes beside them (product_time.h);
// the elements of the KV cache by the rate of attention; and for a decoder block
// KernelRates::layer. The prompt takes the same with all its positions at once, and the FLOPs of
// its attention by their own rate. An expert is computed with the positions that pick it: batch x
// k/E of all, divided by the share of the experts that are read. Formats without a measured rate
// take their share of the roofline.
//
// Pieces on the disk are read, then run on the host or on a GPU (DiskRunner). Pieces in host RAM
// may also be streamed to a GPU and run there; pricing.h says when. Activations hop between devices
// over the quickest route (routes.h). All rates are the machine's; no constant here is fitted to
// measurements. Device::flops is the rate for 16-bit models; float32 models compute at half of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "berth/machine.h"
#include "berth/plan.h"
#include "planner/cost/chain.h"

namespace berth {

constexpr DiskRunner other_than(DiskRunner runner) {
  return runner == DiskRunner::kHost ? DiskRunner::kGpu : DiskRunner::kHost;
}

struct Seconds {
  double prefill = 0;  // of the whole prompt
  double token = 0;    // of one decoding step
};

// How much of a unit a piece holds: the shares of its dense weights and of its experts, 0 to 1. The
// piece that attends also computes the attention and holds the KV cache.
struct Share {
  double dense = 1;
  double experts = 1;
  bool attends = true;

  bool operator==(const Share&) const = default;
};

// Which rate of a device decides how long a piece takes.
enum class Limit : std::uint8_t { kMemory, kFlops, kDisk, kLink };

class TimeModel {
 public:
  // Keeps a reference to `machine`. `usable`: by device; excluded devices compute nothing. What
  // stands on the disk is computed by the CPU or by the largest GPU: by the one that `disk_runner`
  // names if both are usable, else by the one that is.
  TimeModel(const Machine& machine, const Chain& chain, const Workload& workload,
            const std::vector<bool>& usable, DiskRunner disk_runner);

  // The time of a piece that `device` (an index into Machine::devices) holds and computes. For the
  // disk: of reading the piece and running it on runs_on(device).
  Seconds piece(const Unit& unit, std::uint32_t device, const Share& share = {}) const;
  // Bytes that a decoding step of the batch reads of a piece: weights, and KV cache if it attends.
  double token_bytes(const Unit& unit, const Share& share) const;
  // The rates that decide piece(): for the prompt and for a token.
  std::pair<Limit, Limit> limits(const Unit& unit, std::uint32_t device, const Share& share) const;
  // The time of copying what the piece reads from the host to `gpu`: its weights, and for a token
  // its KV cache, too.
  Seconds transfer(const Unit& unit, std::uint32_t gpu, const Share& share) const;
  // The time of moving the activation (of the prompt, of a token) from one device to another.
  Seconds hop(std::uint32_t from, std::uint32_t to) const;
  // What `auto` minimises: seconds for the prompt and all new tokens.
  double score(const Seconds& seconds) const {
    return seconds.prefill + new_tokens_ * seconds.token;
  }
  // The device that computes what stands on `device`: itself, but for the disk.
  std::uint32_t runs_on(std::uint32_t device) const;
  std::uint32_t host() const { return host_; }  // kNone if no cpu may be used
  DiskRunner disk_runner() const { return disk_runner_; }
  std::uint32_t gpu_for_disk() const { return disk_gpu_; }  // kNone if no GPU may be used
  // The GPUs that the host could stream to (excluded ones too), the one with the fastest link
  // first; of equals, the one with the most memory bandwidth.
  const std::vector<std::uint32_t>& streamers() const { return streamers_; }

 private:
  struct Work {
    Seconds weights;    // not seconds: bytes of weights read
    double kv = 0;      // bytes of KV cache that a token reads
    Seconds flops;      // not seconds: FLOPs, with those of attention
    Seconds attention;  // not seconds: FLOPs of attention
  };
  Work work(const Unit& unit, const Share& share) const;
  Seconds roofline(const Work& work, std::uint32_t device) const;
  Seconds by_kernels(const Unit& unit, const Share& share, const Work& work,
                     std::uint32_t device) const;
  // What is known of a format on a device: null where nothing is.
  struct FormatOn {
    const KernelRates::ByPositions* rates = nullptr;
    const KernelRates::ByPositions* starts = nullptr;
  };

  const Machine& machine_;
  Workload workload_;
  double new_tokens_;
  double flop_scale_;
  std::uint32_t host_ = kNone;
  std::uint32_t disk_gpu_ = kNone;
  DiskRunner disk_runner_;
  std::vector<std::uint32_t> streamers_;
  std::size_t formats_;               // of Chain::formats
  double kv_element_;                 // bytes
  std::vector<FormatOn> formats_on_;  // by device and format
  std::vector<double> matvec_;        // by device: bytes of weights a second
  std::vector<double> from_host_;     // by device: bytes a second
  std::vector<double> prefill_hop_, token_hop_;
};

}  // namespace berth

// Where a plan puts a model's layers. Other tools place layers and know of nothing smaller or
// larger; the exports work on this.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "berth/error.h"
#include "berth/plan.h"

namespace berth {

// What a tool would do with the plan does not fit on a device. A plan that leaves more space may
// still be said in the tool's words.
class NoSpace : public Error {
 public:
  using Error::Error;
};

// What of a layer llama.cpp can place by itself: the feed-forward, the experts, and everything
// else, which counts as attention.
enum Sublayer : std::size_t { kAttention, kFeedForward, kExperts, kSublayers };

// By Sublayer: the device and the bytes of weights.
struct LayerHome {
  std::array<std::uint32_t, kSublayers> device{kNone, kNone, kNone};  // kNone: no such sublayer
  std::array<std::uint64_t, kSublayers> bytes{};
  std::uint64_t kv_bytes = 0;

  std::uint32_t home() const { return device[kAttention]; }
  std::uint64_t weights() const { return bytes[0] + bytes[1] + bytes[2]; }
};

// Keeps a reference to the plan, which must outlive it. Tools know one host: what stands on any
// NUMA node stands on the first one here.
struct LayerHomes {
  const Plan& plan;
  std::vector<LayerHome> layers;
  std::uint32_t embedding = kNone;    // device of the input embedding
  std::uint64_t embedding_bytes = 0;  // of its weights
  std::uint32_t head = kNone;         // device of the output projection
  std::uint64_t head_bytes = 0;       // of its weights; 0 if it is tied
  bool tied = false;                  // head and embedding share their weight
  // By device: bytes of what runs before the layers and after them, embedding and head among it,
  // and of encoders and towers, which run for the prompt alone.
  std::vector<std::uint64_t> before, after, towers;

  // `tool`: the name that errors begin with. `fold_disk`: what is on the disk counts as on the CPU.
  // Throws Error if the model's layers are unknown, if the plan leaves a tensor unplaced, or if a
  // sublayer is on several devices.
  LayerHomes(const ModelTree& tree, const Plan& from, const std::string& tool, bool fold_disk);

  bool is_gpu(std::uint32_t device) const;
  std::string label(std::uint32_t device) const;     // "gpu 0", "cpu"
  std::vector<std::uint32_t> gpus_in_order() const;  // those with layers, in order of their first

  // Makes the layers of each device neighbours, as tools want them: those of the host first, then
  // those of each GPU in the order above. Layers trade places for that. If they differ in size and
  // a device has no space for what it would then hold, nothing moves, the answer is kNoSpace and
  // `no_space` says which device it is.
  enum class Gathered { kAsTheyWere, kMoved, kNoSpace };
  Gathered gather();
  std::string no_space;

  // True if `device` has space for `more` bytes beside all that the plan, gather() and
  // require_space() put there. Always true for a plan that does not fit anyway.
  bool has_space(std::uint32_t device, std::uint64_t more) const;
  // Puts `more` bytes on `device`. Throws NoSpace, which begins with `what`, if there is no space.
  void require_space(std::uint32_t device, std::uint64_t more, const std::string& what);
  // Takes `less` bytes from `device`.
  void give_back(std::uint32_t device, std::uint64_t less);
  // The bytes of weights, KV cache and workspace that `device` then holds.
  std::uint64_t held(std::uint32_t device) const;

 private:
  void add_outside(const ModelTree& tree, const ModelTensor& tensor, std::uint32_t device,
                   std::uint64_t bytes, bool starting);
  // The sentence for errors: how much more the device would hold, and what is free there.
  std::string excess(std::uint32_t device, std::uint64_t more) const;
  std::uint64_t free_on(std::uint32_t device) const;

  std::vector<std::int64_t> change_;  // by device: bytes beyond those of the plan
};

// The sum of `bytes`, which are by device, on all devices but `device`.
std::uint64_t elsewhere(const std::vector<std::uint64_t>& bytes, std::uint32_t device);

}  // namespace berth

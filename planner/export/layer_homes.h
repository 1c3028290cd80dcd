// Where a plan has put a model's layers, as tools see it that know of nothing else. Private to
// export*.cc.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

// The pieces of a layer that llama.cpp can place apart; attention stands for all that is no other.
enum LayerPiece : std::size_t { kAttention, kFeedForward, kExperts, kLayerPieces };

struct LayerHome {
  std::array<std::uint32_t, kLayerPieces> device{kNone, kNone, kNone};  // kNone: no such piece
  std::array<std::uint64_t, kLayerPieces> bytes{};
  std::uint64_t kv_bytes = 0;

  std::uint32_t home() const { return device[kAttention]; }
  std::uint64_t weights() const { return bytes[0] + bytes[1] + bytes[2]; }
};

struct LayerHomes {
  const Plan& plan;
  std::vector<LayerHome> layers;
  std::uint32_t embedding = kNone;    // device of the input embedding
  std::uint64_t embedding_bytes = 0;  // and of what else runs before the layers
  std::uint32_t head = kNone;         // device of the output projection
  std::uint64_t head_bytes = 0;       // and of what else runs after the layers
  bool tied = false;                  // head and embedding share their weight

  // Throws Error naming `tool` where layers are unknown, a tensor has no place, or a piece of a
  // layer is on several devices. `fold_disk`: what is on the disk counts as on the CPU.
  LayerHomes(const ModelTree& tree, const Plan& from, const std::string& tool, bool fold_disk);

  bool is_gpu(std::uint32_t device) const;
  std::string label(std::uint32_t device) const;     // "gpu 0", "cpu"
  std::vector<std::uint32_t> gpus_in_order() const;  // that hold layers, as first met

  // Brings layers of one home together: those of the host first, then by GPU in the order above.
  // Layers that differ in size trade places only where every device has space for what it then
  // holds; else nothing moves and `no_space` says what stands in the way.
  enum class Gathered { kAsTheyWere, kMoved, kNoRoom };
  Gathered gather();
  std::string no_space;

  // True where `device` has space for `more` bytes beside what it holds and gather() brought.
  bool has_space(std::uint32_t device, std::uint64_t more) const;
  // The same; throws Error, starting with `what`, where there is none.
  void require_space(std::uint32_t device, std::uint64_t more, const std::string& what) const;

 private:
  std::string excess(std::uint32_t device, std::uint64_t more) const;

  std::vector<std::uint64_t> moved_in_;  // by device: bytes that gather() brought
};

}  // namespace berth

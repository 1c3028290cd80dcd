// What quantising tools see of a model: which tensors are matrices, and where they stand.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "berth/model.h"

namespace berth {

// A weight of rank 2, or the matrices of all experts in one tensor of rank 3.
struct Matrix {
  std::uint64_t count = 1;  // matrices in the tensor
  std::uint64_t out = 0;
  std::uint64_t in = 0;
  bool transposed = false;  // its last dimensions are [in, out]
};

// Nothing for a tensor that is no weight of rank 2, and no stack of experts.
std::optional<Matrix> matrix_of(const ModelTree& tree, const ModelTensor& tensor);

// By ModuleId: where a module stands.
class ModulePlaces {
 public:
  explicit ModulePlaces(const ModelTree& tree);

  bool in_block(ModuleId module) const { return places_[module].block; }
  // Whether it belongs to what sees or hears for a language model, which tools leave as it is.
  bool in_tower(ModuleId module) const { return places_[module].tower; }
  bool routed(ModuleId module) const { return places_[module].routed; }
  // The number of its decoder layer; kNone outside of them.
  std::uint32_t layer(ModuleId module) const { return places_[module].layer; }

 private:
  struct Place {
    bool block = false;
    bool tower = false;
    bool routed = false;
    std::uint32_t layer = kNone;
  };
  std::vector<Place> places_;
};

}  // namespace berth

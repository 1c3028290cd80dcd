// Which dict of a torch.save file is the state dict, and which tensors it holds.
#pragma once

#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/torch/globals.h"

namespace berth {

struct NamedTensor {
  std::string_view name;  // into the pickle
  const TorchTensor* tensor = nullptr;
  Shape shape;
};

// The tensors of `root`, in its order: of the dict itself where tensors stand in it, else of the
// dict one or more levels below that is called as state dicts usually are ("state_dict", "model",
// ...) or is the only one with tensors. Values that are no tensors are left out. Throws Error
// where none or several could be meant, for a name that is empty, too long or there twice, and for
// a tensor whose elements do not stand one after another.
std::vector<NamedTensor> find_state_dict(const PickleMachine& machine, const TorchHost& host,
                                         PickleValue root, const CheckpointLimits& limits);

}  // namespace berth

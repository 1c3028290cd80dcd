// Finds out which dict of a torch.save file is the state dict, and which tensors it holds.
#pragma once

#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"
#include "planner/checkpoint/torch/globals.h"

namespace berth {

struct NamedTensor {
  std::string_view name;  // into the pickle
  const TorchTensor* tensor = nullptr;
  Shape shape;
};

// The tensors of the state dict in `root`, in its order. That is `root` itself if tensors stand in
// it. Otherwise it is a dict one or more levels below: the one that has a name usual for state
// dicts ("state_dict", "model", ...), or the only one with tensors. Values that are not tensors are
// left out. Throws Error if there is no such dict or more than one, for a tensor's name that is
// empty, too long or there twice, and for a tensor whose elements do not stand one after another.
std::vector<NamedTensor> find_state_dict(const PickleMachine& machine, const TorchHost& host,
                                         PickleValue root, const CheckpointLimits& limits);

}  // namespace berth

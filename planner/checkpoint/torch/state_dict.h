// Finds out which dict of a torch.save file is the state dict, and which tensors it holds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"
#include "planner/checkpoint/torch/globals.h"

namespace berth {

struct NamedTensor {
  std::string name;
  const TorchTensor* tensor = nullptr;
  Shape shape;
  Shape strides;  // in elements; empty where the elements stand one after another
};

// The tensors of the state dict in `root`, in its order. `part` names it, as "name" or "name/name"
// for a dict in another. Without a part it is `root` itself if tensors stand in it, or a dict one
// or more levels below: the one that has a name usual for state dicts ("state_dict", "model", ...),
// or the only one with tensors. Values that are not tensors are left out; keys that are numbers are
// names. Throws Error if there is no such dict or more than one, for a tensor's name that is empty,
// too long or there twice, and for a tensor that is not read.
std::vector<NamedTensor> find_state_dict(const PickleMachine& machine, const TorchHost& host,
                                         PickleValue root, std::string_view part,
                                         const CheckpointLimits& limits);

}  // namespace berth

// Places a model by a device map that the user gave, as transformers would.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

struct FollowedMap {
  std::vector<std::uint32_t> tensor_device;  // by TensorId
  // By TensorId: the map says `cpu`, which is all NUMA nodes of the host; "cpu:0" is the first one.
  std::vector<bool> whole_host;
  // The map in the names of the model's modules, covering every tensor; empty if the one that was
  // given cannot be brought into that form (regular expressions), and must be made anew.
  DeviceMap device_map;
  std::vector<std::string> notes;
};

// Follows Request::device_map: of the keys that cover a tensor the longest wins. Keys are the names
// of modules and tensors, or end like them (map_keys.h); those that name nothing are noted and
// ignored, as in transformers. A map may leave out a tensor that is tied to one that it covers, and
// buffers that no checkpoint stores. Throws Error, which names the key, for a device that the
// machine lacks, and if the map leaves out anything else.
FollowedMap follow_map(const PlanInputs& inputs);

}  // namespace berth

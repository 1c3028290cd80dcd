// Host RAM that is several devices, one for each NUMA node: `cpu`, `cpu:1`, ...
//
// Accelerate, transformers and people know one `cpu`. A placement on `cpu` that is not meant for
// the first node alone is therefore divided here: units fill one node after the other, in the order
// in which they run. On a machine with one node nothing is changed. All functions are pure.
#pragma once

#include <cstdint>
#include <vector>

#include "berth/machine.h"
#include "planner/cost/chain.h"
#include "planner/cost/memory.h"

namespace berth {

// The nodes that may be used, as indices into Machine::devices. `usable`: by device.
std::vector<std::uint32_t> host_nodes(const Machine& machine, const std::vector<bool>& usable);

// Divides those tensors for which `on_host` is set (by TensorId) among the nodes: changes their
// entries in `tensor_device`. What stands on a node already takes its space first. A unit that no
// later node has space for stays where it is tried last; the ledger then says how much is missing.
void fill_nodes(const ModelTree& tree, const Machine& machine, const Chain& chain,
                const std::vector<Space>& spaces, const std::vector<bool>& usable,
                const std::vector<bool>& on_host, std::vector<std::uint32_t>& tensor_device);

}  // namespace berth

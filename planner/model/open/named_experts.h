// The routed experts of a tree of names: listed one by one, or fused into tensors of all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "berth/model.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

// Sets Module::expert below a block and gives the number of experts there; 0 where there are none.
// By its config the model has `told` of them in a layer; 0 where that is not known.
std::uint64_t mark_experts(ModelTree& tree, ModuleId block, std::uint64_t told);

// How many experts a layer has by the config, under whatever key that stands.
std::uint64_t experts_told(const TextKeys& keys, std::size_t layer, std::size_t layers);
// How many of them a token uses; nothing where no key says it.
std::optional<std::uint64_t> experts_used(const TextKeys& keys, std::size_t layer,
                                          std::size_t layers);

}  // namespace berth

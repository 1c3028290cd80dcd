// What the keys of a device map mean in one model. A map may be of an older release of
// transformers, of the base model or of what is built around it, or of a checkpoint's own names:
// its keys then differ from the names of the modules by what stands before them.
#pragma once

#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct MapKeys {
  // The map without the keys that name nothing, in the names of this model's modules and tensors.
  // Regular expressions and "" stay as they are.
  DeviceMap map;
  std::vector<std::string> translated;  // "'visual' is taken as 'model.visual'", one each
  std::vector<std::string> unknown;     // keys that name nothing, as given
};

// A key that is no name of a module or tensor of `tree` is looked for by its end: 'model.layers.3'
// and 'language_model.model.layers.3' both mean 'model.language_model.layers.3' where that is the
// only module whose name ends so, or the only one of these that has all components of the key, or
// the only one of them that belongs to the decoder. Anything less certain is unknown.
MapKeys settle_keys(const ModelTree& tree, const DeviceMap& given);

// What a key that names nothing was probably meant to be: a module's name. "" where nothing is
// near.
std::string nearest_module(const ModelTree& tree, const std::string& key);

}  // namespace berth

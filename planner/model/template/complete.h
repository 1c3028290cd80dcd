// What transformers makes of a config.json before it builds a model: the defaults and other names
// of keys that the family's configuration class knows, and what it refuses.
#pragma once

#include <string>
#include <vector>

#include "planner/model/template/architecture.h"
#include "planner/model/tree/config.h"

namespace berth {

// A config that lacks nothing which transformers would fill in, so that its readers need no
// defaults of their own. A null stays a null: it stands for "none", not for the default. Throws
// Error naming the key where transformers, too, refuses the config.
ModelConfig complete_config(ModelConfig config, const Architecture& architecture);

// The same with the template of the config's family. Without one the config stays as it is.
ModelConfig complete_config(ModelConfig config);

// What a completed config says in vain, a sentence for each such key.
std::vector<std::string> unused_settings(const ModelConfig& config,
                                         const Architecture& architecture);

}  // namespace berth

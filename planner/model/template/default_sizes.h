// The sizes of a model that its config.json leaves out.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "planner/model/template/architecture.h"
#include "planner/model/tree/config.h"

namespace berth {

// What an expression of a template says for a key that is absent (`image_size ?? 224`), by key.
using Fallbacks = std::map<std::string, std::int64_t, std::less<>>;

// transformers builds a model of its defaults from a config without sizes, so a plan for it is
// right; but it may be that of another model than the one that was meant. This is a sentence that
// names such sizes of a completed config: those that the configuration class had, and `fallbacks`.
// "" if the file says them all. What follows from other keys, such as the size of a head, is not
// counted.
std::string default_sizes(const ModelConfig& config, const Architecture& architecture,
                          const Fallbacks& fallbacks);

}  // namespace berth

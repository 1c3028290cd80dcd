// What tokenizer_config.json says about a tokenizer.json beside it, as far as ids depend on it.
#pragma once

#include <filesystem>
#include <string_view>

#include "runtime/text/tokenizer.h"

namespace berth {

// The steps that transformers gives the tokenizer of a model of this type: those of tokenizer.json,
// unless tokenizer_config.json names a class that builds its own and `add_prefix_space` changes
// them. Throws Error naming the key where it asks for steps that are not known here.
TokenizerSteps read_tokenizer_steps(const std::filesystem::path& tokenizer_config,
                                    std::string_view model_type);

}  // namespace berth

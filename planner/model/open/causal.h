// Whether a model writes a text token by token, and so keeps a cache of what came before.
#pragma once

#include <string>

#include "berth/model.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

enum class Writes : std::uint8_t {
  kYes,
  kNo,          // an encoder by its config: it reads a text as a whole
  kNoGuessed,   // an encoder by the names of its tensors
  kYesGuessed,  // its config says that it is no decoder, but nothing tells of an encoder
  kNotText,     // nothing says that it reads tokens at all
};

// `decoder`: the list of blocks that stands for the model. What the config says (`is_decoder`,
// `architectures`, `auto_map`) decides; where it says nothing, the names of tensors and modules.
Writes writes_text(const ModelTree& tree, ModuleId decoder, const TextKeys& keys);

}  // namespace berth

// What the tensors of a decoder's block tell of what it keeps between two tokens. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "berth/model.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

// Sizes that hold for the whole model, as far as they are known; 0 where they are not.
struct ModelSizes {
  std::uint64_t hidden = 0;
  std::uint64_t heads = 0;
  std::uint64_t kv_heads = 0;
  std::uint64_t head_dim = 0;        // of queries and keys
  std::uint64_t value_dim = 0;       // of values
  std::uint64_t latent = 0;          // kv_lora_rank + qk_rope_head_dim
  std::uint64_t linear_key_dim = 0;  // of a head of linear attention
  std::uint64_t linear_key_heads = 0;
  std::uint64_t state_dim = 0;     // of a state-space model, for each channel
  std::uint64_t state_groups = 0;  // that share their projections into the state
};

// What the config tells of them. `hidden` is what it says, or the width of the embedding.
ModelSizes told_sizes(const TextKeys& keys, std::uint64_t hidden);

struct BlockFound {
  bool queries = false;        // it attends, with keys of its own or not
  bool keys = false;           // it has keys of its own
  bool fused = false;          // ... in one projection with the queries
  bool sized = true;           // the shapes tell how many elements those have
  std::uint64_t kv = 0;        // elements for each position: keys, values, latents
  std::uint64_t cross = 0;     // the same of an encoder's or a picture's positions
  bool recurrent = false;      // it keeps a state of constant size
  bool state_told = true;      // shapes and config tell how large that is
  bool state_guessed = false;  // ... only with a guess at the size of its heads or groups
  std::uint64_t state_bytes = 0;
  bool compresses = false;  // it keeps entries that are made of several positions each
};

// `element_bytes`: of the dtype that the model computes in; states of recurrences are float32, as
// in transformers. Routed experts are not looked at.
BlockFound scan_block(const ModelTree& tree, ModuleId block, const ModelSizes& sizes,
                      std::uint64_t element_bytes);

}  // namespace berth

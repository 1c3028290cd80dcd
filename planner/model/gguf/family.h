// What llama.cpp calls the tensors and settings of a model family, and what transformers does.
// Internal to the room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/gguf/header.h"

namespace berth {

class JsonWriter;

// How llama.cpp's converter changes a tensor.
enum class GgufChange : std::uint8_t {
  kNone,
  kQueryRows,   // the rows of each query head interleaved, first half with second
  kKeyRows,     // likewise, of each key head
  kTransposed,  // Conv1D's [in, out] turned
  kPlusOne,     // one added
  kExperts,     // all experts in one tensor: `theirs` holds {} for the number
  kRow,         // a matrix of one row that lost its first dimension
};

// One line of a family's table: "attn_q" in "blk.3." is "self_attn.q_proj" in the layer.
struct GgufName {
  std::string_view ours;
  std::string_view theirs;
  GgufChange change = GgufChange::kNone;
};

struct GgufFamily {
  std::string_view architecture;  // general.architecture
  std::string_view model_type;    // config.json
  std::string_view layers;        // "model.layers."
  std::vector<GgufName> outer;    // tensors outside the layers
  std::vector<GgufName> inner;    // tensors of a layer
};

// The family of a file. Throws Error naming an architecture that is not known.
GgufFamily find_gguf_family(const GgufHeader& header);

// Heads as the file says; one number where it has a list of equal ones.
struct GgufHeads {
  std::uint64_t query = 0;
  std::uint64_t key = 0;
  std::uint64_t dimensions = 0;  // of a head
};
GgufHeads gguf_heads(const GgufHeader& header, const std::string& architecture);

// Appends the tensors of one file under their names in transformers, as shard `shard`.
// Throws Error for a tensor that has no place in the family or an impossible shape.
void add_gguf_tensors(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
                      std::uint32_t shard, Checkpoint& checkpoint);

// The text of config.json. `tensors`: all of the model; `rope_factors`: what rope_freqs.weight
// holds, empty where there is none.
std::string gguf_config_json(const GgufHeader& header, const GgufFamily& family,
                             const GgufHeads& heads, const Checkpoint& tensors,
                             const std::vector<float>& rope_factors);

// bos_token_id, eos_token_id and pad_token_id, as far as the file names them. Where a turn of a
// chat ends in another token than a text, either is an end.
void add_special_ids(JsonWriter& json, const GgufHeader& header);

}  // namespace berth

// How llama.cpp and transformers each name the tensors and settings of a model family. Internal to
// planner/model/gguf.
#pragma once

#include <cstdint>
#include <optional>
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
  kQueryRows,   // within each query head, rows of the first and second half alternate
  kKeyRows,     // likewise, within each key head
  kTransposed,  // Conv1D's [in, out] is transposed
  kPlusOne,     // one is added to every value
  kExperts,     // one tensor holds all experts; {} in `theirs` is an expert's number
  kRow,         // a matrix of one row that has lost its first dimension
};

// One line of a family's table: what is "attn_q" in "blk.3." is "self_attn.q_proj" in the layer.
// `ours` is llama.cpp's name and `theirs` is transformers'.
struct GgufName {
  std::string_view ours;
  std::string_view theirs;
  GgufChange change = GgufChange::kNone;
};

struct GgufFamily {
  std::string_view architecture;  // as general.architecture names it
  std::string_view model_type;    // as config.json names it
  std::string_view layers;        // "model.layers."
  std::vector<GgufName> outer;    // tensors outside the layers
  std::vector<GgufName> inner;    // tensors of a layer
};

// The family of a file; nothing for an architecture that is not mapped to one. Throws Error for a
// file that does not say what it is.
std::optional<GgufFamily> find_gguf_family(const GgufHeader& header);

// Why a file is not what its family has: "" if it is. A family has the same heads in all its
// layers, and a place for each tensor.
std::string gguf_misfit(const GgufHeader& header, const GgufFamily& family);

// The numbers of heads that the file states. A file may give a list of equal numbers; that counts
// as one.
struct GgufHeads {
  std::uint64_t query = 0;
  std::uint64_t key = 0;
  std::uint64_t dimensions = 0;  // size of a head
};
GgufHeads gguf_heads(const GgufHeader& header, const std::string& architecture);

// Appends the tensors of one file, under their names in transformers, as shard `shard`. Throws
// Error for an impossible shape. The family must have a place for each, as gguf_misfit() says.
void add_gguf_tensors(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
                      std::uint32_t shard, Checkpoint& checkpoint);

// The numbers that divide rotary frequencies, as rope_freqs.weight, rope_factors_short.weight and
// rope_factors_long.weight hold them; empty where there is no such tensor.
struct GgufRopeFactors {
  std::vector<float> all;
  std::vector<float> of_short;
  std::vector<float> of_long;
};

// The text of config.json. `tensors` holds all tensors of the model.
std::string gguf_config_json(const GgufHeader& header, const GgufFamily& family,
                             const GgufHeads& heads, const Checkpoint& tensors,
                             const GgufRopeFactors& rope_factors);

// Adds bos_token_id, eos_token_id and pad_token_id, as far as the file names them. If a turn of a
// chat ends with another token than a text does, eos_token_id lists both.
void add_special_ids(JsonWriter& json, const GgufHeader& header);

}  // namespace berth

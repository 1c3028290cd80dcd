// llama.cpp's tensor names, family by family. gguf-py's tensor_mapping.py and the converters'
// modify_tensors() say which name means what, and what the converters change.

#include <algorithm>
#include <charconv>
#include <optional>

#include "berth/error.h"
#include "planner/base/digits.h"
#include "planner/base/quote.h"
#include "planner/model/gguf/family.h"
#include "planner/model/gguf/keys.h"

namespace berth {
namespace {

using enum GgufChange;

constexpr std::uint64_t kMostExperts = 65'536;

// Attention and a gated feed-forward network as Llama has them.
const std::vector<GgufName> kOuter = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
const std::vector<GgufName> kInner = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};

// A row of the table of families.
struct FamilyRow {
  std::string_view architecture;  // as GGUF calls it
  std::string_view model_type;    // as transformers does
  GgufFamily (*make)(const FamilyRow& row, const GgufHeader& header);
};

GgufFamily like_llama(const FamilyRow& row, const GgufHeader&) {
  return {row.architecture, row.model_type, "model.layers.", kOuter, kInner};
}

// Replaces the lines that have the same name; appends the others.
void replace(std::vector<GgufName>& names, const std::vector<GgufName>& lines) {
  for (const GgufName& line : lines) {
    std::erase_if(names, [&](const GgufName& name) { return name.ours == line.ours; });
    names.push_back(line);
  }
}

GgufFamily llama(const FamilyRow& row, const GgufHeader& header) {
  GgufFamily family = like_llama(row, header);
  replace(family.inner,
          {{"attn_q", "self_attn.q_proj", kQueryRows}, {"attn_k", "self_attn.k_proj", kKeyRows}});
  if (header.unsigned_integer("llama.expert_count").value_or(0) > 0) {
    family.model_type = "mixtral";
    replace(family.inner, {{"ffn_gate_inp", "block_sparse_moe.gate"},
                           {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1", kExperts},
                           {"ffn_down_exps", "block_sparse_moe.experts.{}.w2", kExperts},
                           {"ffn_up_exps", "block_sparse_moe.experts.{}.w3", kExperts}});
  }
  return family;
}

GgufFamily qwen_moe(const FamilyRow& row, const GgufHeader& header) {
  GgufFamily family = like_llama(row, header);
  replace(family.inner, {{"ffn_gate_inp", "mlp.gate"},
                         {"ffn_gate_exps", "mlp.experts.{}.gate_proj", kExperts},
                         {"ffn_up_exps", "mlp.experts.{}.up_proj", kExperts},
                         {"ffn_down_exps", "mlp.experts.{}.down_proj", kExperts},
                         {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", kRow},
                         {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                         {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                         {"ffn_down_shexp", "mlp.shared_expert.down_proj"}});
  return family;
}

GgufFamily gemma(const FamilyRow& row, const GgufHeader& header) {
  GgufFamily family = like_llama(row, header);
  replace(family.outer, {{"output_norm", "model.norm", kPlusOne}});
  replace(family.inner, {{"attn_norm", "input_layernorm", kPlusOne},
                         {"ffn_norm", "post_attention_layernorm", kPlusOne},
                         {"attn_q_norm", "self_attn.q_norm", kPlusOne},
                         {"attn_k_norm", "self_attn.k_norm", kPlusOne}});
  return family;
}

GgufFamily gemma_with_four_norms(const FamilyRow& row, const GgufHeader& header) {
  GgufFamily family = gemma(row, header);
  replace(family.inner, {{"ffn_norm", "pre_feedforward_layernorm", kPlusOne},
                         {"post_attention_norm", "post_attention_layernorm", kPlusOne},
                         {"post_ffw_norm", "post_feedforward_layernorm", kPlusOne}});
  return family;
}

GgufFamily phi3(const FamilyRow& row, const GgufHeader& header) {
  GgufFamily family = like_llama(row, header);
  replace(family.inner, {{"attn_qkv", "self_attn.qkv_proj"}, {"ffn_up", "mlp.gate_up_proj"}});
  return family;
}

GgufFamily gpt2(const FamilyRow& row, const GgufHeader&) {
  return {row.architecture,
          row.model_type,
          "transformer.h.",
          {{"token_embd", "transformer.wte"},
           {"position_embd", "transformer.wpe"},
           {"output_norm", "transformer.ln_f"},
           {"output", "lm_head"}},
          {{"attn_norm", "ln_1"},
           {"attn_qkv", "attn.c_attn", kTransposed},
           {"attn_output", "attn.c_proj", kTransposed},
           {"ffn_norm", "ln_2"},
           {"ffn_up", "mlp.c_fc", kTransposed},
           {"ffn_down", "mlp.c_proj", kTransposed}}};
}

constexpr FamilyRow kFamilies[] = {
    {"llama", "llama", llama},
    {"qwen2", "qwen2", like_llama},
    {"qwen2moe", "qwen2_moe", qwen_moe},
    {"qwen3", "qwen3", like_llama},
    {"qwen3moe", "qwen3_moe", qwen_moe},
    {"gemma", "gemma", gemma},
    {"gemma2", "gemma2", gemma_with_four_norms},
    {"gemma3", "gemma3_text", gemma_with_four_norms},
    {"phi3", "phi3", phi3},
    {"gpt2", "gpt2", gpt2},
};

// True for tensors that say how to rotate. They are settings, not weights.
bool is_rotary_table(std::string_view name) {
  return name.ends_with("rope_freqs.weight") || name.ends_with("rope_factors_long.weight") ||
         name.ends_with("rope_factors_short.weight") || name.ends_with("attn_rot_embd.weight");
}

// Where a tensor belongs in a family: "blk.3.ffn_gate.7.weight" is the line of "ffn_gate_exps", the
// prefix of layer 3, and expert 7.
struct Place {
  const GgufName* line = nullptr;  // null: nowhere
  std::string prefix;              // "model.layers.3."
  std::string leaf;                // ".weight"
  std::string_view lone_expert;    // the number of an expert that is stored apart; else empty
};

// Files from 2023 store each expert apart: "ffn_gate.3".
void find_lone_expert(const GgufFamily& family, std::string_view stem, Place& place) {
  const std::size_t dot = stem.rfind('.');
  if (dot == stem.npos || !is_number(stem.substr(dot + 1))) return;
  const std::string stacked = std::string(stem.substr(0, dot)) + "_exps";
  for (const GgufName& name : family.inner) {
    if (name.change != kExperts || name.ours != stacked) continue;
    place.line = &name;
    place.lone_expert = stem.substr(dot + 1);
  }
}

Place find_place(const GgufFamily& family, std::string_view name) {
  Place place;
  std::string_view rest = name;
  const std::vector<GgufName>* names = &family.outer;
  if (rest.starts_with("blk.")) {
    const std::size_t dot = rest.find('.', 4);
    std::uint32_t layer = 0;
    const auto number = rest.substr(4, dot == rest.npos ? 0 : dot - 4);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layer);
    if (error != std::errc() || end != number.data() + number.size()) return place;
    place.prefix = std::string(family.layers) + std::to_string(layer) + ".";
    rest.remove_prefix(dot + 1);
    names = &family.inner;
  }
  const std::size_t dot = rest.rfind('.');
  const std::string_view stem = rest.substr(0, dot);
  place.leaf = dot == rest.npos ? "" : rest.substr(dot);
  if (place.leaf != ".weight" && place.leaf != ".bias") return place;
  const auto line = std::ranges::find(*names, stem, &GgufName::ours);
  if (line != names->end()) {
    place.line = &*line;
  } else {
    find_lone_expert(family, stem, place);
  }
  return place;
}

class Namer {
 public:
  Namer(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
        std::uint32_t shard, Checkpoint& checkpoint)
      : header_(header), family_(family), heads_(heads), shard_(shard), checkpoint_(checkpoint) {}

  void add(const GgufTensor& tensor) {
    if (is_rotary_table(tensor.name)) return;
    const Place found = find_place(family_, tensor.name);
    if (found.line == nullptr) fail(tensor, "has no place in the model that the file describes");
    if (tensor.tiled) check_tiles(tensor, found);
    if (found.lone_expert.empty()) {
      place(tensor, *found.line, found.prefix, found.leaf);
    } else {
      append(info_of(tensor,
                     found.prefix + numbered(found.line->theirs, found.lone_expert) + found.leaf));
    }
  }

 private:
  [[noreturn]] void fail(const GgufTensor& tensor, const std::string& what) const {
    throw Error(header_.source() + ": tensor " + quote(tensor.name) + " " + what);
  }

  static std::string numbered(std::string_view pattern, std::string_view number) {
    std::string name(pattern);
    return name.replace(name.find("{}"), 2, number);
  }

  TensorInfo info_of(const GgufTensor& tensor, std::string name) {
    TensorInfo info;
    info.name = std::move(name);
    info.dtype = tensor.dtype;
    info.shape = tensor.shape;
    info.shard = shard_;
    info.begin = tensor.begin;
    info.end = tensor.end;
    if (tensor.tiled) info.form = form(StoredForm{.tiled = true});
    return info;
  }

  // What `convert` writes: rows in the model's order, one list of experts at most.
  void check_tiles(const GgufTensor& tensor, const Place& found) const {
    const GgufChange change = found.line->change;
    const bool stacked = change == kExperts && found.lone_expert.empty();
    if (change != kTransposed && change != kRow && tensor.shape.size() == (stacked ? 3 : 2)) return;
    fail(tensor,
         "is in tiles, which it cannot be in a " + std::string(family_.model_type) + " model");
  }

  void append(TensorInfo info) { checkpoint_.tensors.push_back(std::move(info)); }

  void place(const GgufTensor& tensor, const GgufName& name, const std::string& prefix,
             const std::string& leaf) {
    if (name.change == kExperts) return place_experts(tensor, name, prefix, leaf);
    TensorInfo info = info_of(tensor, prefix + std::string(name.theirs) + leaf);
    switch (name.change) {
      case kQueryRows:
        interleave(tensor, heads_.query, info);
        break;
      case kKeyRows:
        interleave(tensor, heads_.key, info);
        break;
      case kTransposed:
        if (leaf == ".weight") transpose(tensor, info);
        break;
      case kPlusOne:
        if (tensor.dtype != DType::kF32) fail(tensor, "is a norm's weight but not F32");
        info.form = form(StoredForm{.plus_one = true});
        break;
      case kRow:
        if (info.shape.size() == 1) info.shape = Shape{1, tensor.shape[0]};
        break;
      default:
        break;
    }
    append(std::move(info));
  }

  // Of what is stored as [groups, rows, columns, unit] and meant as [groups, columns, rows, unit].
  static StoredForm turned(std::uint64_t groups, std::uint64_t rows, std::uint64_t columns,
                           std::uint64_t unit) {
    return {.sizes = {groups, columns, rows, unit},
            .strides = {rows * columns * unit, unit, columns * unit, 1}};
  }

  // The index of a form; a form that was used before is not added again.
  std::uint32_t form(const StoredForm& wanted) {
    std::vector<StoredForm>& forms = checkpoint_.forms;
    std::size_t i = 0;
    while (i < forms.size() && forms[i] != wanted) ++i;
    if (i == forms.size()) forms.push_back(wanted);
    return static_cast<std::uint32_t>(i + 1);
  }

  // Rows 2i and 2i + 1 of a stored head are rows i and i + half of the head in transformers.
  void interleave(const GgufTensor& tensor, std::uint64_t heads, TensorInfo& info) {
    if (tensor.tiled) return;  // its rows are in the model's order
    const std::uint64_t rows = tensor.shape.empty() ? 0 : tensor.shape[0];
    if (heads == 0 || rows == 0 || rows % (2 * heads) != 0) {
      fail(tensor, "has " + std::to_string(rows) + " rows, which " + std::to_string(heads) +
                       " heads of an even size cannot have");
    }
    std::uint64_t unit = 1;  // cannot overflow, because the tensor's size is known
    for (std::size_t i = 1; i < tensor.shape.size(); ++i) unit *= tensor.shape[i];
    if (rows == 2 * heads || unit == 0) return;  // a single pair is in order already
    info.form = form(turned(heads, rows / heads / 2, 2, unit));
  }

  void transpose(const GgufTensor& tensor, TensorInfo& info) {
    if (tensor.shape.size() != 2) fail(tensor, "is not a matrix");
    const std::uint64_t rows = tensor.shape[0];
    const std::uint64_t columns = tensor.shape[1];
    info.shape = Shape{columns, rows};
    if (rows > 1 && columns > 1) info.form = form(turned(1, rows, columns, 1));
  }

  void place_experts(const GgufTensor& tensor, const GgufName& name, const std::string& prefix,
                     const std::string& leaf) {
    const std::uint64_t experts = tensor.shape.size() < 2 ? 0 : tensor.shape[0];
    if (experts == 0 || experts > kMostExperts) {
      fail(tensor, "is not a list of 1 to " + std::to_string(kMostExperts) + " experts");
    }
    const std::uint64_t bytes = (tensor.end - tensor.begin) / experts;
    if (bytes == 0) fail(tensor, "has experts of no size");
    if (checkpoint_.tensors.size() + experts > CheckpointLimits().tensors) {
      fail(tensor, "makes more than " + std::to_string(CheckpointLimits().tensors) + " tensors");
    }
    for (std::uint64_t expert = 0; expert < experts; ++expert) {
      std::string full = prefix;
      full.append(numbered(name.theirs, std::to_string(expert))).append(leaf);
      TensorInfo info = info_of(tensor, full);
      info.shape = Shape(tensor.shape.begin() + 1, tensor.shape.end());
      info.begin = tensor.begin + expert * bytes;
      info.end = info.begin + bytes;
      append(std::move(info));
    }
  }

  const GgufHeader& header_;
  const GgufFamily& family_;
  const GgufHeads& heads_;
  std::uint32_t shard_;
  Checkpoint& checkpoint_;
};

}  // namespace

std::optional<GgufFamily> find_gguf_family(const GgufHeader& header) {
  const auto architecture = header.text("general.architecture");
  if (!architecture) header.fail("general.architecture", "is missing: what model is this?");
  for (const FamilyRow& row : kFamilies) {
    if (row.architecture == *architecture) return row.make(row, header);
  }
  return std::nullopt;
}

std::string gguf_misfit(const GgufHeader& header, const GgufFamily& family) {
  const GgufKeys keys(header, family.architecture);
  for (const std::string_view name : {"attention.head_count", "attention.head_count_kv",
                                      "attention.key_length", "feed_forward_length"}) {
    if (keys.varies(name)) return keys.key(name) + " differs from layer to layer";
  }
  for (const GgufTensor& tensor : header.tensors()) {
    if (is_rotary_table(tensor.name) || find_place(family, tensor.name).line != nullptr) continue;
    return "tensor " + quote(tensor.name) + " has no place in a " + std::string(family.model_type) +
           " model";
  }
  return "";
}

void add_gguf_tensors(const GgufHeader& header, const GgufFamily& family, const GgufHeads& heads,
                      std::uint32_t shard, Checkpoint& checkpoint) {
  Namer namer(header, family, heads, shard, checkpoint);
  for (const GgufTensor& tensor : header.tensors()) namer.add(tensor);
}

}  // namespace berth

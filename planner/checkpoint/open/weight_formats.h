// The table of formats whose files hold nothing but tensors, one row for each format. The files
// that describe such a model (config.json, tokenizer.json) lie in the folder beside its weights.
// Formats that have the description inside are in planner/model/open/formats.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"

namespace berth {

// A folder's files have the names that transformers gives them, or diffusers.
struct WeightFormat {
  CheckpointFormat format;
  std::span<const std::string_view> extensions;  // of a file; the first of them in a folder
  std::string_view single;                       // in a folder: the whole model
  std::string_view index;                        // which of several files holds which tensor
  std::string_view prefix;  // of files that make up the model where there is no index
  // Of the same three in the folder of a component of a diffusers pipeline, what names begin with:
  // STEM.safetensors, STEM.safetensors.index.json, STEM-00001-of-00002.safetensors.
  std::string_view component_stem;
  // Whether a file of `bytes` bytes that begins with `head` (kStandInBytes, or all of it) is one.
  bool (*begins)(std::string_view head, std::uint64_t bytes);
  // Reads the headers of `files`, which become the checkpoint's shards in this order. `part` names
  // one of several sets of tensors in a file; empty: the only one. Throws Error naming file, tensor
  // and offset for anything malformed or unreadable.
  void (*read)(Checkpoint& checkpoint, const std::vector<std::filesystem::path>& files,
               const std::string& part, const CheckpointLimits& limits);

  std::string_view suffix() const { return extensions.front(); }
};

// In the order in which a folder is searched for them.
std::span<const WeightFormat> weight_formats();

// By the file's name. Where that says nothing, as in a cache of blobs, by what the file begins
// with. Null where it is of none of these formats.
const WeightFormat* weight_format_of(const std::filesystem::path& file);

// The first bytes of a regular file, kStandInBytes at most; empty where it cannot be read.
std::string head_of(const std::filesystem::path& file);

// Whether the name of a file says nothing about its format: no ending that is known here. The
// names in a cache of blobs are hexadecimal digits.
bool is_unnamed(const std::filesystem::path& file);

}  // namespace berth

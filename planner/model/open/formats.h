// The table of checkpoint formats: how each is recognised and opened, and where its config,
// tokenizer and checksums are. Nothing else asks which format a model has.
//
// There are two kinds, each with its rows. Of most formats a file holds tensors and nothing else
// (planner/checkpoint/open/weight_formats.h): config.json, tokenizer.json and the like lie in the
// folder beside it. A file of the others is the whole model (WholeFormat, below): its metadata says
// what those files would. To add a format is to add its CheckpointFormat, its row and its reader.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "berth/checkpoint.h"

namespace berth {

// What a file of a whole model gives: its tensors, and the text that its config.json would have,
// without a dtype.
struct WholeModel {
  Checkpoint checkpoint;
  std::string config_json;
};

// A text that would lie beside weights as a file called `name`, made of a model's first file.
struct InsideText {
  std::string_view name;
  std::string (*text)(const std::filesystem::path& file, const CheckpointLimits& limits);
  // True if the model can do without the text where it cannot be made, as for an unknown kind of
  // tokenizer.
  bool optional = false;
};

struct WholeFormat {
  CheckpointFormat format;
  std::string_view name;       // for people
  std::string_view extension;  // of its files, for people
  std::string_view mark;       // what its files begin with
  bool mixes_floats;           // so to be run, they are turned into one dtype
  // By the file's name alone: whether it is of this format, and whether it is a split after the
  // first, of a model that is split over several files.
  bool (*has_name)(const std::filesystem::path& file);
  bool (*is_later_split)(const std::filesystem::path& file);
  // Throws Error for a broken file, and for a model of a kind that is not read.
  WholeModel (*open)(const std::filesystem::path& file);
  std::span<const InsideText> texts;  // besides the config
};

// Null for a format whose files hold tensors alone.
const WholeFormat* whole_format(CheckpointFormat format);

// A file to open, and its format; null where the path is none of a whole model.
struct WholeFile {
  const WholeFormat* format = nullptr;
  std::filesystem::path file;
};

// Finds the whole model that `path` is, by its name, or by its first bytes where the name says
// nothing. If `path` `is_folder`, finds the one in it by names alone, provided that it is the only
// one and the folder holds no other model; lists the folder once.
WholeFile find_whole_file(const std::filesystem::path& path, bool is_folder);

// The files of weights that can be opened, for messages: ".safetensors, .gguf, .bin, .pt or .pth".
std::string weight_extensions();

// The checkpoint that MODEL is or holds (model_path.h), of any format, without asking which model
// it is. Throws Error as open_checkpoint() and WholeFormat::open do.
Checkpoint open_stored(const std::filesystem::path& model);

// Where the checksums of `checkpoint`, opened as `model`, stand if nobody says otherwise: in the
// model's folder, or beside its only file. Those of a whole model, which may be named by its folder
// or by any of its splits, are beside its first split always.
std::filesystem::path checksum_file(const std::filesystem::path& model,
                                    const Checkpoint& checkpoint);

}  // namespace berth

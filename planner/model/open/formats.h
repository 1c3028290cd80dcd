// The table of checkpoint formats: how each is recognised and opened, and where its config,
// tokenizer and checksums are. Nothing else asks which format a model has.
//
// There are two kinds of formats, and a table for each. In most formats a file holds nothing but
// tensors (planner/checkpoint/open/weight_formats.h): config.json, tokenizer.json and the like lie
// in the folder beside it. In the others a file is the whole model (WholeFormat, below): its
// metadata says what those files would. A new format needs a CheckpointFormat, a row and a reader.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/checkpoint/limits.h"

namespace berth {

// What a file of a whole model gives: its tensors, and the text that its config.json would have,
// without a dtype. A model of which no config.json can tell has none and makes its tree by itself.
struct WholeModel {
  Checkpoint checkpoint;
  std::string config_json;
  std::function<ModelTree(const Checkpoint&, std::optional<DType>)> tree;
};

// A text that would lie beside weights as a file called `name`, made of a model's first file.
struct InsideText {
  std::string_view name;
  std::string (*text)(const std::filesystem::path& file, const CheckpointLimits& limits);
  // True if a conversion goes on, with a note, when the text cannot be made, as for a tokenizer of
  // an unknown kind.
  bool optional = false;
};

struct WholeFormat {
  CheckpointFormat format;
  std::string_view name;       // for people
  std::string_view extension;  // of its files, for people
  std::string_view mark;       // what its files begin with
  bool mixes_floats;           // a file may have several float dtypes; `run` needs one
  // By the file's name alone: whether it is of this format, and whether it is a split after the
  // first, of a model that is split over several files.
  bool (*has_name)(const std::filesystem::path& file);
  bool (*is_later_split)(const std::filesystem::path& file);
  // Throws Error for a broken file.
  WholeModel (*open)(const std::filesystem::path& file);
  // What a file is that is no model of its own but stands beside one, such as "a projector"; empty
  // for a model, and for a file that cannot be read.
  std::string (*beside_model)(const std::filesystem::path& file);
  std::span<const InsideText> texts;  // besides the config
};

// Null for a format whose files hold tensors alone.
const WholeFormat* whole_format(CheckpointFormat format);

// A file that is a whole model, and its format. `format` is null if there is no such file.
struct WholeFile {
  const WholeFormat* format = nullptr;
  std::filesystem::path file;
  std::vector<std::string> notes;  // which files of the folder were left out, and why
};

// Whether `path` is a whole model, by its name, or by its first bytes if the name says nothing. For
// a folder (`is_folder`), the whole model in it, if it holds exactly one, and no other model. Lists
// the folder once, and goes by names; where there are several files, each is asked what it is.
WholeFile find_whole_file(const std::filesystem::path& path, bool is_folder);

// The files of weights that can be opened, for messages: ".safetensors, .gguf, .bin, .pt or .pth".
std::string weight_extensions();

// The checkpoint that MODEL is or holds (model_path.h), of any format, without asking which model
// it is. Throws Error as open_checkpoint() and WholeFormat::open do.
Checkpoint open_stored(const std::filesystem::path& model);

// The default file for the checksums of `checkpoint`, which was opened as `model`: in the model's
// folder, or beside its only file. For a whole model it is always beside the first split, because
// such a model may be named by its folder or by any of its splits.
std::filesystem::path checksum_file(const std::filesystem::path& model,
                                    const Checkpoint& checkpoint);

}  // namespace berth

// Opens a GGUF model: one file, or all splits of one that was split.

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>
#include <utility>

#include "berth/error.h"
#include "planner/base/digits.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/name_table.h"
#include "planner/model/gguf/family.h"
#include "planner/model/gguf/gguf.h"
#include "planner/model/gguf/layers.h"
#include "planner/model/gguf/tree.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostSplits = 99'999;   // a split's number has five digits
constexpr std::uint64_t kMostFactors = 65'536;  // pairs of rotary dimensions

// The name of split `split` of `splits`, if `file` is named as llama.cpp names splits:
// "model-00002-of-00003.gguf". Otherwise nothing.
std::optional<fs::path> split_path(const fs::path& file, std::uint64_t split,
                                   std::uint64_t splits) {
  const auto digits = [](std::uint64_t number) {
    const std::string text = std::to_string(number);
    return text.size() < 5 ? std::string(5 - text.size(), '0') + text : text;
  };
  const std::string stem = file.stem().string();
  const std::string tail = "-of-" + digits(splits);
  if (!stem.ends_with(tail) || stem.size() < tail.size() + 6) return std::nullopt;
  const std::string front = stem.substr(0, stem.size() - tail.size() - 6);
  return file.parent_path() / (front + "-" + digits(split) + tail + file.extension().string());
}

struct Split {
  GgufHeader header;
  Shard shard;
};

Split read_split(const fs::path& path, const CheckpointLimits& limits) {
  Split split;
  split.header = read_gguf_header(path, limits, split.shard);
  return split;
}

// All splits of the model that `file` is or belongs to, beginning with the first.
std::vector<Split> read_splits(const fs::path& file, const CheckpointLimits& limits) {
  std::vector<Split> splits;
  splits.push_back(read_split(file, limits));
  const std::uint64_t count = splits[0].header.unsigned_integer("split.count").value_or(0);
  if (count <= 1) return splits;
  if (count > kMostSplits) splits[0].header.fail("split.count", "more than 99999 splits");
  const std::uint64_t own = splits[0].header.unsigned_integer("split.no").value_or(0);
  std::vector<Split> given = std::exchange(splits, {});
  for (std::uint64_t i = 0; i < count; ++i) {
    if (i == own) {
      splits.push_back(std::move(given[0]));
      given.clear();  // no other split has this number
      continue;
    }
    const auto path = split_path(file, i + 1, count);
    if (!path) {
      throw Error(file.string() + ": is one of " + std::to_string(count) +
                  " splits, but its name does not say which (model-00001-of-0000N.gguf)");
    }
    std::error_code ignored;
    if (!fs::exists(*path, ignored)) {
      throw Error(file.string() + ": split " + quote(path->filename().string()) +
                  " is missing from the folder");
    }
    splits.push_back(read_split(*path, limits));
    if (splits.back().header.unsigned_integer("split.no") != i) {
      splits.back().header.fail("split.no", "is not that of split " + std::to_string(i + 1));
    }
  }
  return splits;
}

// Numbers that divide rotary frequencies. They are a few hundred bytes, stored as a tensor although
// they are a setting, so they are read while planning. `count` is how many are expected.
std::vector<float> read_factors(const Split& split, std::string_view name, std::uint64_t count) {
  std::vector<float> factors;
  for (const GgufTensor& tensor : split.header.tensors()) {
    if (tensor.name != name) continue;
    if (tensor.dtype != DType::kF32 || count == 0 || count > kMostFactors ||
        count != (tensor.end - tensor.begin) / sizeof(float)) {
      throw Error(split.header.source() + ": tensor " + quote(name) + " is not F32 of " +
                  std::to_string(count) + " elements");
    }
    factors.resize(count);
    std::vector<char> bytes(count * sizeof(float));
    File(split.shard.path).read_exactly(tensor.begin, bytes.data(), bytes.size());
    std::memcpy(factors.data(), bytes.data(), bytes.size());
  }
  return factors;
}

void read_rope_factors(const Split& split, std::uint64_t head, std::uint64_t rotary,
                       GgufRopeFactors& factors) {
  const auto read = [&](std::vector<float>& into, std::string_view name, std::uint64_t dimensions) {
    if (into.empty()) into = read_factors(split, name, dimensions / 2);
  };
  read(factors.all, "rope_freqs.weight", head);
  read(factors.of_short, "rope_factors_short.weight", rotary);
  read(factors.of_long, "rope_factors_long.weight", rotary);
}

void check_unique(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors;
  NameTable names(tensors.size());
  const auto name_of = [&](std::uint32_t i) -> std::string_view { return tensors[i].name; };
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    if (names.insert(tensors[i].name, i, name_of) == NameTable::kAbsent) continue;
    throw Error(checkpoint.shards[tensors[i].shard].path.string() + ": tensor " +
                quote(tensors[i].name) + " is in the model twice");
  }
}

}  // namespace

bool is_gguf(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == kGgufExtension;
}

bool is_later_gguf_split(const fs::path& path) {
  const std::string stem = path.stem().string();
  constexpr std::size_t kTail = std::string_view("-00002-of-00003").size();
  if (stem.size() < kTail) return false;
  const std::string_view tail = std::string_view(stem).substr(stem.size() - kTail);
  return tail[0] == '-' && tail.substr(6, 4) == "-of-" && is_number(tail.substr(1, 5)) &&
         is_number(tail.substr(10)) && tail.substr(1, 5) != "00001";
}

namespace {

// A model that is mapped to a family: under the names of transformers.
void open_as_family(const std::vector<Split>& splits, const GgufFamily& family, GgufModel& model) {
  const GgufHeader& first = splits[0].header;
  const GgufHeads heads = gguf_heads(first, std::string(family.architecture));
  GgufRopeFactors rope_factors;
  const std::uint64_t rotary =
      first.unsigned_integer(std::string(family.architecture) + ".rope.dimension_count")
          .value_or(heads.dimensions);
  Checkpoint& checkpoint = model.checkpoint;
  for (const Split& split : splits) {
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    add_gguf_tensors(split.header, family, heads, shard, checkpoint);
    checkpoint.shards.push_back(split.shard);
    read_rope_factors(split, heads.dimensions, rotary, rope_factors);
  }
  check_unique(checkpoint);
  if (has_tiles(checkpoint)) {
    checkpoint.notes.emplace_back(
        "weights are in tiles, the order that Berth's kernels for CPUs want: no other program "
        "reads "
        "this file");
  }
  model.config_json = gguf_config_json(first, family, heads, checkpoint, rope_factors);
}

// Any other file: under its own names. `note` says why.
void open_by_names(const std::vector<Split>& splits, std::string note, GgufModel& model) {
  Checkpoint& checkpoint = model.checkpoint;
  for (const Split& split : splits) {
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    for (const GgufTensor& tensor : split.header.tensors()) {
      if (tensor.tiled) {
        throw Error(split.header.source() + ": tensor " + quote(tensor.name) +
                    " is in tiles, which it can be only in a model of a known family: " + note);
      }
      checkpoint.tensors.push_back({.name = tensor.name,
                                    .dtype = tensor.dtype,
                                    .shape = tensor.shape,
                                    .shard = shard,
                                    .begin = tensor.begin,
                                    .end = tensor.end});
    }
    checkpoint.shards.push_back(split.shard);
  }
  check_unique(checkpoint);
  checkpoint.notes.push_back(std::move(note));
  const GgufHeader& first = splits[0].header;
  GgufLayers layers = gguf_layers(first, checkpoint.tensors);
  model.tree = [layers = std::move(layers),
                architecture = std::string(first.text("general.architecture").value_or(""))](
                   const Checkpoint& of, std::optional<DType> dtype) {
    return gguf_tree(of, architecture, layers, dtype);
  };
}

GgufKind kind_of(const GgufHeader& header) {
  const std::string_view type = header.text("general.type").value_or("");
  const std::string_view architecture = header.text("general.architecture").value_or("");
  if (type == "imatrix" || architecture == "imatrix") return GgufKind::kImatrix;
  if (type == "adapter") return GgufKind::kAdapter;
  if (type == "mmproj" || type == "projector" || architecture == "clip") {
    return GgufKind::kProjector;
  }
  return GgufKind::kModel;
}

// Why a file goes by its own names; "" if it is mapped to `family`.
std::string reason_for_names(const std::vector<Split>& splits,
                             const std::optional<GgufFamily>& family) {
  if (!family) {
    return quote(splits[0].header.text("general.architecture").value_or("")) +
           " models are not mapped to names of transformers";
  }
  for (const Split& split : splits) {
    if (std::string reason = gguf_misfit(split.header, *family); !reason.empty()) return reason;
  }
  return "";
}

}  // namespace

std::string_view gguf_kind_name(GgufKind kind) {
  switch (kind) {
    case GgufKind::kModel:
      return "a model";
    case GgufKind::kProjector:
      return "a projector";
    case GgufKind::kImatrix:
      return "an importance matrix";
    case GgufKind::kAdapter:
      return "an adapter";
  }
  return "";
}

GgufKind gguf_kind(const fs::path& file, const CheckpointLimits& limits) {
  return kind_of(read_split(file, limits).header);
}

GgufModel open_gguf(const fs::path& file, const CheckpointLimits& limits) {
  const std::vector<Split> splits = read_splits(file, limits);
  const GgufHeader& first = splits[0].header;
  GgufModel model;
  model.checkpoint.folder = file.parent_path();
  model.checkpoint.format = CheckpointFormat::kGguf;
  if (const GgufKind kind = kind_of(first); kind != GgufKind::kModel) {
    const std::string what = quote(file.filename().string()) + " is " +
                             std::string(gguf_kind_name(kind)) + ", not a whole model";
    open_by_names(splits, what + ": planned by the names in it", model);
    return model;
  }
  const std::optional<GgufFamily> family = find_gguf_family(first);
  if (const std::string reason = reason_for_names(splits, family); !reason.empty()) {
    open_by_names(splits, reason + ": planned by the names and the metadata in the file", model);
  } else {
    open_as_family(splits, *family, model);
  }
  return model;
}

}  // namespace berth

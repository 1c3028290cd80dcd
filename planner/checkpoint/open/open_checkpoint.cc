#include "planner/checkpoint/open/open_checkpoint.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/huge_pages.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/open/folder_files.h"
#include "planner/checkpoint/open/weight_formats.h"
#include "planner/checkpoint/safetensors/shard_index.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// About how many bytes of memory it takes to open a model for each byte of its index: for the text,
// its entries, the tensors and their names.
constexpr std::size_t kIndexGrowth = 4;

std::string shard_name(const Checkpoint& checkpoint, std::uint32_t shard) {
  return checkpoint.shards[shard].path.filename().string();
}

[[noreturn]] void fail_twice(const Checkpoint& checkpoint, std::uint32_t first,
                             std::uint32_t second) {
  const TensorInfo& tensor = checkpoint.tensors[second];
  throw Error(checkpoint.shards[tensor.shard].path.string() + ": tensor " + quote(tensor.name) +
              " is also in " + quote(shard_name(checkpoint, checkpoint.tensors[first].shard)));
}

// Throws Error for a name that two shards hold.
void check_unique(const Checkpoint& checkpoint) {
  NameTable table(checkpoint.tensors.size());
  const auto name_of = [&](std::uint32_t i) -> std::string_view {
    return checkpoint.tensors[i].name;
  };
  for (std::uint32_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const std::uint32_t known = table.insert(checkpoint.tensors[i].name, i, name_of);
    if (known != NameTable::kAbsent) fail_twice(checkpoint, known, i);
  }
}

// ": 'a', and 3 more": the first of the tensors that a note is about.
std::string first_of(std::string_view name, std::size_t count) {
  return ": " + quote(name) + (count > 1 ? " and " + std::to_string(count - 1) + " more" : "");
}

// Settles which tensors the checkpoint has where index and shards disagree. As in transformers, the
// model has what the shards hold, wherever the index looks for it. Where several shards hold a
// tensor, the index decides; if it does not name the tensor, the last shard does.
class IndexedTensors {
 public:
  IndexedTensors(Checkpoint& checkpoint, const ShardIndex& index, std::string file)
      : checkpoint_(checkpoint), index_(index), file_(std::move(file)) {}

  void settle() {
    find_holders();
    settle_unnamed();
    note_entries();
    if (!dropped_.empty()) drop();
  }

 private:
  static constexpr std::uint32_t kAbsent = NameTable::kAbsent;

  const std::vector<TensorInfo>& tensors() const { return checkpoint_.tensors; }

  // Writers sort both, so the next tensor is mostly the next entry.
  void find_holders() {
    holder_.assign(index_.entries.size(), kAbsent);
    std::uint32_t next = 0;
    for (std::uint32_t i = 0; i < tensors().size(); ++i) {
      const std::uint32_t entry = index_.find(tensors()[i].name, next);
      if (entry == kAbsent) {
        unnamed_.push_back(i);
        continue;
      }
      next = entry + 1;
      std::uint32_t& holder = holder_[entry];
      if (holder == kAbsent) {
        holder = i;
      } else {
        const bool first = tensors()[holder].shard == index_.entries[entry].shard;
        later_dropped_ = later_dropped_ || first;
        dropped_.push_back(first ? i : std::exchange(holder, i));
      }
    }
  }

  void settle_unnamed() {
    if (unnamed_.empty()) return;
    const auto name_of = [&](std::uint32_t i) -> std::string_view { return tensors()[i].name; };
    NameTable table(unnamed_.size());
    // From the end, because the last shard that holds a tensor decides.
    for (std::size_t i = unnamed_.size(); i-- > 0;) {
      if (table.insert(name_of(unnamed_[i]), unnamed_[i], name_of) != NameTable::kAbsent) {
        dropped_.push_back(unnamed_[i]);
      }
    }
    note(file_ + " does not name all that the shards hold" +
         first_of(name_of(unnamed_[0]), unnamed_.size()) +
         "; taken from there, as transformers does");
  }

  void note_entries() {
    std::size_t missing = 0;
    std::size_t moved = 0;
    std::uint32_t first_missing = 0;
    std::uint32_t first_moved = 0;
    for (std::uint32_t i = 0; i < index_.entries.size(); ++i) {
      if (holder_[i] == kAbsent) {
        if (missing++ == 0) first_missing = i;
      } else if (tensors()[holder_[i]].shard != index_.entries[i].shard) {
        if (moved++ == 0) first_moved = i;
      }
    }
    if (missing > 0) {
      note(file_ + " names what no shard holds" +
           first_of(index_.entries[first_missing].tensor, missing));
    }
    if (moved > 0) {
      note(file_ + " looks in another shard for what " +
           quote(shard_name(checkpoint_, tensors()[holder_[first_moved]].shard)) + " holds" +
           first_of(index_.entries[first_moved].tensor, moved));
    }
  }

  void drop() {
    std::ranges::sort(dropped_);
    const TensorInfo& first = tensors()[dropped_[0]];
    note("several shards hold the same tensor" + first_of(first.name, dropped_.size()) +
         "; the one in " + quote(shard_name(checkpoint_, first.shard)) + " is left out" +
         (later_dropped_ ? ", as the index says (transformers would take the last)" : ""));
    std::size_t kept = 0;
    auto next = dropped_.begin();
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) {
      if (next != dropped_.end() && *next == i) {
        ++next;
      } else if (kept++ != i) {
        checkpoint_.tensors[kept - 1] = std::move(checkpoint_.tensors[i]);
      }
    }
    checkpoint_.tensors.resize(kept);
  }

  void note(std::string text) { checkpoint_.notes.push_back(std::move(text)); }

  Checkpoint& checkpoint_;
  const ShardIndex& index_;
  std::string file_;                    // the index's name, for notes
  std::vector<std::uint32_t> holder_;   // by entry: the tensor that is taken
  std::vector<std::uint32_t> unnamed_;  // tensors without an entry
  std::vector<std::uint32_t> dropped_;  // tensors that another one stands for
  bool later_dropped_ = false;          // for one in an earlier shard
};

void open_indexed(Checkpoint& checkpoint, const WeightFormat& format, const fs::path& file,
                  const CheckpointLimits& limits) {
  std::error_code unknown;
  const std::uintmax_t index_bytes = fs::file_size(file, unknown);
  if (!unknown && index_bytes <= limits.header_bytes) prefer_huge_heap(index_bytes * kIndexGrowth);
  const ShardIndex index = read_shard_index(file, limits, format.suffix());
  std::vector<fs::path> files;
  std::size_t missing = 0;
  std::string first;
  for (const std::string& name : index.shards) {
    std::error_code ignored;
    files.push_back(checkpoint.folder / name);
    if (!fs::exists(files.back(), ignored) && missing++ == 0) first = name;
  }
  if (missing > 0) {
    throw Error(file.string() + ": shard " + quote(first) + " is missing from the folder" +
                (missing > 1 ? ", and " + std::to_string(missing - 1) + " more" : ""));
  }
  checkpoint.tensors.reserve(index.entries.size());
  format.read(checkpoint, files, "", limits);
  IndexedTensors(checkpoint, index, file.filename().string()).settle();
}

void open_files(Checkpoint& checkpoint, const WeightFormat& format,
                const std::vector<fs::path>& files, const CheckpointLimits& limits) {
  format.read(checkpoint, files, "", limits);
  check_unique(checkpoint);
}

// Opens the file of the whole model, or what the index says.
bool open_named(Checkpoint& checkpoint, const WeightFormat& format, const fs::path& single,
                const fs::path& index, const CheckpointLimits& limits) {
  std::error_code ignored;
  if (fs::exists(single, ignored)) {
    format.read(checkpoint, {single}, "", limits);
    return true;
  }
  if (!fs::exists(fs::symlink_status(index, ignored))) return false;
  open_indexed(checkpoint, format, index, limits);
  return true;
}

// Opens the variant of weights that the folder has, if it is the only one.
bool open_variant(Checkpoint& checkpoint, const WeightFormat& format, std::string_view stem,
                  const CheckpointLimits& limits) {
  const Variant variant = find_variant(checkpoint.folder, format, stem);
  if (variant.name.empty()) return false;
  if (!variant.index.empty()) {
    open_indexed(checkpoint, format, variant.index, limits);
  } else {
    open_files(checkpoint, format, variant.files, limits);
  }
  checkpoint.notes.push_back(checkpoint.folder.filename().string() + ": holds the variant " +
                             quote(variant.name) + " of its weights alone");
  return true;
}

// Looks as transformers and diffusers do: for the one file of the whole model, else for the index,
// else for the one variant that is there, else for any shards. Returns false if the folder holds no
// model of this format.
bool open_format(Checkpoint& checkpoint, const WeightFormat& format,
                 const CheckpointLimits& limits) {
  const fs::path& folder = checkpoint.folder;
  const std::string component = std::string(format.component_stem) + std::string(format.suffix());
  const std::string_view stem =
      format.single.substr(0, format.single.size() - format.suffix().size());
  if (open_named(checkpoint, format, folder / format.single, folder / format.index, limits) ||
      open_named(checkpoint, format, folder / component, folder / (component + ".index.json"),
                 limits) ||
      open_variant(checkpoint, format, stem, limits) ||
      open_variant(checkpoint, format, format.component_stem, limits))
    return true;
  const std::vector<fs::path> files = files_of_kind(folder, format, WeightsKind::kModel);
  if (files.empty()) return false;
  open_files(checkpoint, format, files, limits);
  for (std::string& note : notes_of_others(folder, format)) {
    checkpoint.notes.push_back(std::move(note));
  }
  return true;
}

void open_folder(Checkpoint& checkpoint, const CheckpointLimits& limits) {
  for (const WeightFormat& format : weight_formats()) {
    checkpoint.format = format.format;
    if (open_format(checkpoint, format, limits)) return;
  }
  // A folder that holds nothing else is opened as what it has.
  for (const WeightsKind kind : {WeightsKind::kOriginal, WeightsKind::kAdapter}) {
    for (const WeightFormat& format : weight_formats()) {
      checkpoint.format = format.format;
      const std::vector<fs::path> files = files_of_kind(checkpoint.folder, format, kind);
      if (!files.empty()) return open_files(checkpoint, format, files, limits);
    }
  }
  fail_without_weights(checkpoint.folder);
}

[[noreturn]] void fail_unknown(const fs::path& file) {
  std::vector<std::string_view> extensions;
  for (const WeightFormat& format : weight_formats()) {
    extensions.insert(extensions.end(), format.extensions.begin(), format.extensions.end());
  }
  throw Error(file.string() + ": is neither a folder nor a " + join_in_words(extensions, "or") +
              " file");
}

}  // namespace

Checkpoint open_checkpoint(const ModelPath& model, const CheckpointLimits& limits) {
  std::error_code error;
  const fs::file_status status = fs::status(model.path, error);
  if (!fs::exists(status)) throw Error(model.path.string() + ": no such file or folder");
  Checkpoint checkpoint;
  if (!model.note.empty()) checkpoint.notes.push_back(model.note);
  if (fs::is_directory(status)) {
    checkpoint.folder = model.path;
    open_folder(checkpoint, limits);
    return checkpoint;
  }
  checkpoint.folder = model.path.parent_path();
  const WeightFormat* const format = weight_format_of(model.path);
  if (format == nullptr) fail_unknown(model.path);
  checkpoint.format = format->format;
  format->read(checkpoint, {model.path}, model.part, limits);
  return checkpoint;
}

Checkpoint open_checkpoint(const fs::path& model, const CheckpointLimits& limits) {
  return open_checkpoint(resolve_model(model), limits);
}

}  // namespace berth

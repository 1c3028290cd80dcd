#include "planner/checkpoint/open/open_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/huge_pages.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/name_table.h"
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

[[noreturn]] void fail_misplaced(const ShardIndex& index, std::uint32_t entry,
                                 const std::string& source, const std::string& but) {
  throw Error(source + ": tensor " + quote(index.entries[entry].tensor) + " should be in " +
              quote(index.shards[index.entries[entry].shard]) + ", " + but);
}

// Throws Error unless the shards have exactly the tensors that the index says they have.
void compare(const Checkpoint& checkpoint, const ShardIndex& index, const fs::path& file) {
  const std::string source = file.string();
  constexpr std::uint32_t kAbsent = NameTable::kAbsent;
  std::vector<std::uint32_t> holder(index.entries.size(), kAbsent);  // by entry: its tensor
  std::uint32_t surplus = kAbsent;  // first tensor without an entry
  std::uint32_t next = 0;  // writers sort both, so the next tensor is mostly the next entry
  for (std::uint32_t i = 0; i < checkpoint.tensors.size(); ++i) {
    const std::uint32_t entry = index.find(checkpoint.tensors[i].name, next);
    next = entry == kAbsent ? next : entry + 1;
    if (entry == kAbsent) {
      if (surplus == kAbsent) surplus = i;
    } else if (holder[entry] != kAbsent) {
      fail_twice(checkpoint, holder[entry], i);
    } else {
      holder[entry] = i;
    }
  }
  for (std::uint32_t i = 0; i < index.entries.size(); ++i) {
    if (holder[i] == kAbsent) fail_misplaced(index, i, source, "which does not hold it");
    const std::uint32_t actual = checkpoint.tensors[holder[i]].shard;
    if (actual == index.entries[i].shard) continue;
    fail_misplaced(index, i, source, "but it is in " + quote(shard_name(checkpoint, actual)));
  }
  if (surplus != kAbsent) {
    const TensorInfo& tensor = checkpoint.tensors[surplus];
    throw Error(checkpoint.shards[tensor.shard].path.string() + ": tensor " + quote(tensor.name) +
                " is not in " + file.filename().string());
  }
}

void open_indexed(Checkpoint& checkpoint, const WeightFormat& format,
                  const CheckpointLimits& limits) {
  const fs::path file = checkpoint.folder / format.index;
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
  format.read(checkpoint, files, limits);
  compare(checkpoint, index, file);
}

// What the name "model-00002-of-00005.safetensors" says.
struct Numbered {
  std::string stem;  // "model"
  std::uint32_t part = 0;
  std::uint32_t parts = 0;
  std::size_t digits = 0;
};

std::optional<Numbered> parse_numbered(std::string_view name, std::string_view suffix) {
  name.remove_suffix(suffix.size());
  const auto of = name.rfind("-of-");
  if (of == name.npos) return std::nullopt;
  const auto dash = name.rfind('-', of == 0 ? 0 : of - 1);
  if (dash == name.npos || dash >= of) return std::nullopt;
  const std::string_view part = name.substr(dash + 1, of - dash - 1);
  const std::string_view parts = name.substr(of + 4);
  Numbered numbered{std::string(name.substr(0, dash)), 0, 0, part.size()};
  const auto whole = [](std::string_view text, std::uint32_t& out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && end == text.data() + text.size();
  };
  if (!whole(part, numbered.part) || !whole(parts, numbered.parts)) return std::nullopt;
  return numbered;
}

std::string padded(std::uint32_t number, std::size_t digits) {
  std::string text = std::to_string(number);
  return text.size() < digits ? std::string(digits - text.size(), '0') + text : text;
}

// If there is no index, numbered names say how many shards there must be. Throws Error if one of
// them is missing.
void check_complete(const fs::path& folder, const std::vector<fs::path>& files,
                    std::string_view suffix) {
  struct Series {
    Numbered name;
    std::vector<std::uint32_t> parts;
  };
  std::map<std::string, Series> all;
  for (const fs::path& file : files) {
    const auto numbered = parse_numbered(file.filename().string(), suffix);
    if (!numbered) continue;
    Series& series = all[numbered->stem + "/" + std::to_string(numbered->parts)];
    series.name = *numbered;
    series.parts.push_back(numbered->part);
  }
  for (auto& [key, series] : all) {
    const Numbered& name = series.name;
    std::ranges::sort(series.parts);
    for (std::uint32_t expected = 1; expected <= name.parts; ++expected) {
      if (expected <= series.parts.size() && series.parts[expected - 1] == expected) continue;
      throw Error(folder.string() + ": shard '" + name.stem + "-" + padded(expected, name.digits) +
                  "-of-" + padded(name.parts, name.digits) + std::string(suffix) +
                  "' is missing (" + std::to_string(series.parts.size()) + " of " +
                  std::to_string(name.parts) + " are here)");
    }
  }
}

// Throws the Error for a folder without shards. If other weights lie in it, it names their file.
[[noreturn]] void fail_without_shards(const fs::path& folder) {
  std::error_code error;
  std::string other;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (weight_format_of(it->path()) == nullptr && it->path().extension() != kGgufExtension)
      continue;
    const std::string name = it->path().filename().string();
    if (other.empty() || name < other) other = name;
  }
  std::string text = folder.string() + ": holds";
  std::string_view joint = " no ";
  for (const WeightFormat& format : weight_formats()) {
    text += joint;
    text +=
        format.prefix.empty() ? std::string(format.suffix()) + " file" : std::string(format.single);
    joint = " and no ";
  }
  if (other.empty()) throw Error(text);
  throw Error(text + ", but " + quote(other) + ": name that file to open it alone");
}

// The shards of a format that has no index in the folder, sorted. Empty if there are none.
std::vector<fs::path> list_files(const fs::path& folder, const WeightFormat& format) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(format.suffix()) && name.starts_with(format.prefix) && name[0] != '.') {
      files.push_back(it->path());
    }
  }
  if (error) throw Error(folder.string() + ": cannot be listed: " + error.message());
  std::ranges::sort(files);
  return files;
}

// Looks as transformers does: for the one file of the whole model, else for the index, else for any
// shards. Returns false if the folder holds nothing of this format.
bool open_format(Checkpoint& checkpoint, const WeightFormat& format,
                 const CheckpointLimits& limits) {
  std::error_code ignored;
  const fs::path& folder = checkpoint.folder;
  if (fs::exists(folder / format.single, ignored)) {
    format.read(checkpoint, {folder / format.single}, limits);
    return true;
  }
  if (fs::exists(fs::symlink_status(folder / format.index, ignored))) {
    open_indexed(checkpoint, format, limits);
    return true;
  }
  const std::vector<fs::path> files = list_files(folder, format);
  if (files.empty()) return false;
  check_complete(folder, files, format.suffix());
  format.read(checkpoint, files, limits);
  check_unique(checkpoint);
  return true;
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

Checkpoint open_checkpoint(const fs::path& model, const CheckpointLimits& limits) {
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (!fs::exists(status)) throw Error(model.string() + ": no such file or folder");
  Checkpoint checkpoint;
  if (fs::is_directory(status)) {
    checkpoint.folder = model;
    for (const WeightFormat& format : weight_formats()) {
      checkpoint.format = format.format;
      if (open_format(checkpoint, format, limits)) return checkpoint;
    }
    fail_without_shards(model);
  }
  checkpoint.folder = model.parent_path();
  const WeightFormat* const format = weight_format_of(model);
  if (format == nullptr) fail_unknown(model);
  checkpoint.format = format->format;
  format->read(checkpoint, {model}, limits);
  return checkpoint;
}

}  // namespace berth

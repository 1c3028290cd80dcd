#include "planner/checkpoint/open/open_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/huge_pages.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/safetensors/header.h"
#include "planner/checkpoint/safetensors/shard_index.h"
#include "planner/checkpoint/shard_of.h"
#include "planner/checkpoint/stand_in.h"
#include "planner/checkpoint/torch/file.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// A format that a folder may hold, by the names that transformers gives its files.
struct Format {
  std::string_view suffix;  // of every file
  std::string_view single;  // the whole model
  std::string_view index;   // which of several files holds which tensor
  std::string_view prefix;  // of files that make up the model where there is no index
  void (*read)(Checkpoint& checkpoint, const std::vector<fs::path>& files,
               const CheckpointLimits& limits);
};

void check_count(const Checkpoint& checkpoint, const std::vector<fs::path>& files,
                 const CheckpointLimits& limits) {
  if (files.size() <= limits.shards) return;
  throw Error(checkpoint.folder.string() + ": more than " + std::to_string(limits.shards) +
              " shards");
}

// What opening by an index takes for each byte of it, about: the text itself, its entries, the
// tensors and their names.
constexpr std::size_t kIndexGrowth = 4;

// The length of the file's header, whose first eight bytes are `first`.
std::uint64_t header_length(const File& file, std::string_view first,
                            const CheckpointLimits& limits) {
  const std::string source = file.identity().path.string();
  try {
    return read_header_length(first, file.size(), source, limits);
  } catch (const Error&) {
    // Only of a file that is no safetensors is more looked at than its header.
    std::string head(std::min(file.size(), kStandInBytes), '\0');
    file.read_exactly(0, head.data(), head.size());
    refuse_stand_in(head, source);
    throw;
  }
}

// Reads the headers of `files`, which become the checkpoint's shards in this order.
void read_headers(Checkpoint& checkpoint, const std::vector<fs::path>& files,
                  const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  HeaderParser parser;
  std::vector<char> buffer;
  for (const fs::path& path : files) {
    const File file(path);
    const std::string source = path.string();
    // Exactly the header is read, in two calls: not one byte of the weights behind it.
    char first[8] = {};
    file.read_exactly(0, first, std::min<std::uint64_t>(sizeof first, file.size()));
    const std::uint64_t length = header_length(file, {first, sizeof first}, limits);
    buffer.resize(length + simdjson::SIMDJSON_PADDING);
    file.read_exactly(sizeof first, buffer.data(), length);
    std::fill_n(buffer.data() + length, simdjson::SIMDJSON_PADDING, '\0');
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    parser.parse({buffer.data(), length}, file.size(), shard, source, limits, checkpoint.tensors);
    checkpoint.shards.push_back(shard_of(file));
  }
}

// The same for files of torch.save.
void read_torch_files(Checkpoint& checkpoint, const std::vector<fs::path>& files,
                      const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  for (const fs::path& path : files) {
    const File file(path);
    const ByteSource source{path.string(), file.size(),
                            [&](std::uint64_t offset, char* out, std::uint64_t count) {
                              file.read_exactly(offset, out, count);
                            }};
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    read_torch_file(source, shard, limits, checkpoint.tensors);
    checkpoint.shards.push_back(shard_of(file));
  }
}

constexpr Format kSafetensors{".safetensors", "model.safetensors", "model.safetensors.index.json",
                              "", read_headers};
constexpr Format kTorch{".bin", "pytorch_model.bin", "pytorch_model.bin.index.json",
                        "pytorch_model", read_torch_files};

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

// Asks that index and shards tell the same story, tensor for tensor.
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

void open_indexed(Checkpoint& checkpoint, const Format& format, const CheckpointLimits& limits) {
  const fs::path file = checkpoint.folder / format.index;
  std::error_code unknown;
  const std::uintmax_t index_bytes = fs::file_size(file, unknown);
  if (!unknown && index_bytes <= limits.header_bytes) prefer_huge_heap(index_bytes * kIndexGrowth);
  const ShardIndex index = read_shard_index(file, limits, format.suffix);
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

// The parts of "model-00002-of-00005.safetensors".
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

// Without an index, names that count themselves say whether all of them are here.
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

// What else lies in a folder without shards, so that the error can say it.
[[noreturn]] void fail_without_shards(const fs::path& folder) {
  std::error_code error;
  std::string other;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (!is_torch_extension(extension) && extension != ".gguf") continue;
    const std::string name = it->path().filename().string();
    if (other.empty() || name < other) other = name;
  }
  const std::string text =
      folder.string() + ": holds no .safetensors file and no pytorch_model.bin";
  if (other.empty()) throw Error(text);
  throw Error(text + ", but " + quote(other) + ": name that file to open it alone");
}

// The files of a format whose index is missing, sorted; none where there are none.
std::vector<fs::path> list_files(const fs::path& folder, const Format& format) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(format.suffix) && name.starts_with(format.prefix) && name[0] != '.') {
      files.push_back(it->path());
    }
  }
  if (error) throw Error(folder.string() + ": cannot be listed: " + error.message());
  std::ranges::sort(files);
  return files;
}

// As transformers looks: the whole file first, then the index; then whatever is there. False where
// the folder holds nothing of this format.
bool open_format(Checkpoint& checkpoint, const Format& format, const CheckpointLimits& limits) {
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
  check_complete(folder, files, format.suffix);
  format.read(checkpoint, files, limits);
  check_unique(checkpoint);
  return true;
}

}  // namespace

bool is_torch_extension(std::string_view extension) {
  return extension == ".bin" || extension == ".pt" || extension == ".pth";
}

Checkpoint open_checkpoint(const fs::path& model, const CheckpointLimits& limits) {
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (!fs::exists(status)) throw Error(model.string() + ": no such file or folder");
  Checkpoint checkpoint;
  if (fs::is_directory(status)) {
    checkpoint.folder = model;
    for (const Format& format : {kSafetensors, kTorch}) {
      if (open_format(checkpoint, format, limits)) return checkpoint;
    }
    fail_without_shards(model);
  }
  checkpoint.folder = model.parent_path();
  const std::string extension = model.extension().string();
  if (extension == kSafetensors.suffix) {
    read_headers(checkpoint, {model}, limits);
  } else if (is_torch_extension(extension)) {
    read_torch_files(checkpoint, {model}, limits);
  } else {
    throw Error(model.string() +
                ": is neither a folder nor a .safetensors, .bin, .pt or .pth file");
  }
  return checkpoint;
}

}  // namespace berth

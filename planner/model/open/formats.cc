#include "planner/model/open/formats.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/open/folder_files.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/checkpoint/open/weight_formats.h"
#include "planner/model/gguf/gguf.h"
#include "planner/model/open/pipeline.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

WholeModel open_gguf_file(const fs::path& file) {
  GgufModel model = open_gguf(file);
  return {std::move(model.checkpoint), std::move(model.config_json), std::move(model.tree)};
}

std::string beside_gguf_model(const fs::path& file) {
  try {
    const GgufKind kind = gguf_kind(file);
    return kind == GgufKind::kModel ? "" : std::string(gguf_kind_name(kind));
  } catch (const Error&) {
    return "";  // says what is wrong when it is opened
  }
}

constexpr InsideText kGgufTexts[] = {
    {"generation_config.json", gguf_generation_config_json},
    {"tokenizer.json", gguf_tokenizer_json, /*optional=*/true},
    {"tokenizer_config.json", gguf_tokenizer_config_json, /*optional=*/true},
};

constexpr WholeFormat kFormats[] = {
    {CheckpointFormat::kGguf, "GGUF", kGgufExtension, "GGUF", /*mixes_floats=*/true, is_gguf,
     is_later_gguf_split, open_gguf_file, beside_gguf_model, kGgufTexts},
};

const WholeFormat* format_named(const fs::path& file) {
  const auto* const row =
      std::ranges::find_if(kFormats, [&](const auto& format) { return format.has_name(file); });
  return row == std::end(kFormats) ? nullptr : row;
}

// By the name of a file; where that says nothing, by what the file begins with.
const WholeFormat* format_of(const fs::path& file) {
  if (const WholeFormat* const named = format_named(file)) return named;
  if (!is_unnamed(file)) return nullptr;
  const std::string head = head_of(file);
  const auto* const row = std::ranges::find_if(
      kFormats, [&](const auto& format) { return head.starts_with(format.mark); });
  return row == std::end(kFormats) ? nullptr : row;
}

// True for weights that have their description beside them. A folder that holds such a file is
// taken to be of that kind.
bool is_weights_in_folder(const fs::path& file) {
  const std::string extension = file.extension().string();
  return std::ranges::any_of(
      weight_formats(), [&](const WeightFormat& format) { return format.suffix() == extension; });
}

std::string left_out(const fs::path& file, const std::string& what) {
  return quote(file.filename().string()) + " is " + what + " and left out";
}

}  // namespace

const WholeFormat* whole_format(CheckpointFormat format) {
  const auto* const row = std::ranges::find(kFormats, format, &WholeFormat::format);
  return row == std::end(kFormats) ? nullptr : row;
}

WholeFile find_whole_file(const fs::path& path, bool is_folder) {
  if (!is_folder) return {format_of(path), path, {}};
  std::vector<WholeFile> found;
  std::vector<fs::path> by_name;  // what is no model by its name
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const fs::path& file = it->path();
    const WholeFormat* const format = format_named(file);
    if (weights_kind(file) != WeightsKind::kModel) {
      if (format != nullptr) by_name.push_back(file);
      continue;
    }
    if (is_weights_in_folder(file)) return {};
    if (format == nullptr || format->is_later_split(file)) continue;
    found.push_back({format, file, {}});
  }
  std::vector<std::string> notes;
  for (const fs::path& file : by_name) {
    const std::string what = format_named(file)->beside_model(file);
    notes.push_back(left_out(file, what.empty() ? "no model by its name" : what));
  }
  if (found.size() > 1) {
    std::erase_if(found, [&](const WholeFile& whole) {
      const std::string what = whole.format->beside_model(whole.file);
      if (!what.empty()) notes.push_back(left_out(whole.file, what));
      return !what.empty();
    });
  }
  if (found.size() != 1) return {};
  std::ranges::sort(notes);
  found[0].notes = std::move(notes);
  return found[0];
}

std::string weight_extensions() {
  std::map<CheckpointFormat, std::vector<std::string_view>> by_format;
  for (const WeightFormat& row : weight_formats()) {
    by_format[row.format].assign(row.extensions.begin(), row.extensions.end());
  }
  for (const WholeFormat& row : kFormats) by_format[row.format].push_back(row.extension);
  std::vector<std::string_view> all;
  for (const auto& [format, extensions] : by_format) {
    all.insert(all.end(), extensions.begin(), extensions.end());
  }
  return join_in_words(all, "or");
}

Checkpoint open_stored(const fs::path& named) {
  const ModelPath model = resolve_model(named);
  std::error_code ignored;
  const fs::file_status status = fs::status(model.path, ignored);
  const bool is_folder = fs::is_directory(status);
  if (is_folder && is_pipeline(model.path)) return open_pipeline_checkpoint(model.path);
  const WholeFile whole = find_whole_file(model.path, is_folder);
  if (whole.format != nullptr) return whole.format->open(whole.file).checkpoint;
  if (fs::exists(status) && !is_folder && weight_format_of(model.path) == nullptr) {
    throw Error(named.string() + ": is neither a folder nor a " + weight_extensions() + " file");
  }
  return open_checkpoint(model);
}

fs::path checksum_file(const fs::path& named, const Checkpoint& checkpoint) {
  std::error_code ignored;
  const bool whole = whole_format(checkpoint.format) != nullptr;
  if (!whole && fs::is_directory(resolve_model(named).path, ignored)) {
    return checkpoint.folder / "berth.checksums.json";
  }
  return (whole ? checkpoint.shards[0].path : named).string() + ".checksums.json";
}

}  // namespace berth

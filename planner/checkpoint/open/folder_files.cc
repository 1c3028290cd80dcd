#include "planner/checkpoint/open/folder_files.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/header.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// How the names of files begin that are not the model's.
constexpr std::pair<std::string_view, WeightsKind> kOtherNames[] = {
    {"adapter", WeightsKind::kAdapter},       {"pytorch_lora_weights", WeightsKind::kAdapter},
    {"consolidated", WeightsKind::kOriginal}, {"optimizer", WeightsKind::kTraining},
    {"scheduler", WeightsKind::kTraining},    {"training_args", WeightsKind::kTraining},
    {"rng_state", WeightsKind::kTraining},    {"random_states", WeightsKind::kTraining},
    {"scaler", WeightsKind::kTraining},
};

// Files of weights that Berth does not read, by how their names end.
constexpr std::pair<std::string_view, std::string_view> kForeign[] = {
    {".h5", "TensorFlow"}, {".msgpack", "Flax"}, {".onnx", "ONNX"},
    {".ot", "rust-bert"},  {".npz", "NumPy"},    {".tflite", "TensorFlow Lite"},
};

// The parts of "model-00002-of-00005.safetensors".
struct Numbered {
  std::string stem;  // "model"
  std::uint32_t part = 0;
  std::uint32_t parts = 0;
  std::size_t digits = 0;
};

std::optional<Numbered> parse_numbered(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
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

std::vector<fs::path> list(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string()[0] != '.') files.push_back(it->path());
  }
  if (error) throw Error(folder.string() + ": cannot be listed: " + error.message());
  std::ranges::sort(files);
  return files;
}

// Meta's files of one model are slices of every tensor, one for each GPU: names do not say how they
// are put together.
void refuse_slices(const fs::path& folder, const std::vector<fs::path>& files) {
  if (files.size() < 2 || weights_kind(files[0]) != WeightsKind::kOriginal) return;
  if (files[0].extension() != ".pth") return;
  throw Error(folder.string() + ": holds original weights (" + files[0].filename().string() +
              " and " + std::to_string(files.size() - 1) +
              " more), each file a slice of every tensor: fetch the model in Hugging Face's form, "
              "or join them with transformers' convert_llama_weights_to_hf.py");
}

}  // namespace

WeightsKind weights_kind(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name.ends_with(kGgufExtension) && name.find("mmproj") != name.npos) {
    return WeightsKind::kProjector;
  }
  for (const auto& [begin, kind] : kOtherNames) {
    if (name.starts_with(begin)) return kind;
  }
  return WeightsKind::kModel;
}

std::vector<fs::path> files_of_kind(const fs::path& folder, const WeightFormat& format,
                                    WeightsKind kind) {
  std::vector<fs::path> files;
  for (const fs::path& file : list(folder)) {
    const std::string name = file.filename().string();
    // The model's own files have the names that transformers gives them.
    const bool named = kind == WeightsKind::kModel
                           ? name.ends_with(format.suffix()) && name.starts_with(format.prefix)
                           : std::ranges::find(format.extensions, file.extension().string()) !=
                                 format.extensions.end();
    if (named && weights_kind(file) == kind) files.push_back(file);
  }
  if (files.empty()) return files;
  refuse_slices(folder, files);
  check_complete(folder, files, files[0].extension().string());
  return files;
}

namespace {

// The name of the variant that a file of weights or an index is of; nothing if it is of none.
std::optional<std::string> variant_of(std::string_view name, std::string_view stem,
                                      std::string_view suffix) {
  constexpr std::string_view kIndex = ".index.";
  constexpr std::string_view kJson = ".json";
  if (!name.starts_with(stem)) return std::nullopt;
  name.remove_prefix(stem.size());
  const std::string index_start = std::string(suffix) + std::string(kIndex);
  if (name.starts_with(index_start) && name.ends_with(kJson) &&
      name.size() > index_start.size() + kJson.size()) {
    name.remove_prefix(index_start.size());
    name.remove_suffix(kJson.size());
    return std::string(name);
  }
  if (!name.ends_with(suffix)) return std::nullopt;
  name.remove_suffix(suffix.size());
  const std::size_t dot = name.find('.');
  if (dot == name.npos) return std::nullopt;
  // Before the dot a shard's number, or nothing; behind it the variant, and perhaps a number.
  const bool numbered =
      parse_numbered(std::string(stem) + std::string(name.substr(0, dot)), "").has_value();
  if (dot != 0 && !numbered) return std::nullopt;
  const std::string variant(name.substr(dot + 1));
  const auto with_number = parse_numbered(variant, "");
  return with_number ? with_number->stem : variant;
}

// Whether every folder that has such files has a variant, whatever it is called. Models of
// transformers may consist of files with other words in their names.
bool is_known_variant(std::string_view name, std::string_view stem, const WeightFormat& format) {
  constexpr std::string_view kNames[] = {"fp16", "bf16", "fp32", "fp8", "ema", "non_ema"};
  return stem == format.component_stem || std::ranges::find(kNames, name) != std::end(kNames);
}

}  // namespace

Variant find_variant(const fs::path& folder, const WeightFormat& format, std::string_view stem) {
  Variant found;
  for (const fs::path& file : list(folder)) {
    const std::string name = file.filename().string();
    const auto variant = variant_of(name, stem, format.suffix());
    if (!variant || variant->empty() || !is_known_variant(*variant, stem, format)) continue;
    if (!found.name.empty() && found.name != *variant) {
      throw Error(folder.string() + ": holds the variants " + quote(found.name) + " and " +
                  quote(*variant) + " of its weights, and none without: keep one of them there");
    }
    found.name = *variant;
    if (name.ends_with(".json")) {
      found.index = file;
    } else {
      found.files.push_back(file);
    }
  }
  if (found.index.empty()) {
    check_complete(folder, found.files, format.suffix());
    check_complete(folder, found.files, "." + found.name + std::string(format.suffix()));
  }
  return found;
}

std::vector<std::string> notes_of_others(const fs::path& folder, const WeightFormat& format) {
  std::vector<std::string> notes;
  for (const WeightsKind kind : {WeightsKind::kOriginal, WeightsKind::kAdapter}) {
    std::string first;
    for (const fs::path& file : list(folder)) {
      const bool named = file.filename().string().ends_with(format.suffix());
      if (first.empty() && named && weights_kind(file) == kind) first = file.filename().string();
    }
    if (first.empty()) continue;
    notes.push_back(quote(first) + (kind == WeightsKind::kAdapter
                                        ? " is an adapter and left out; PEFT merges it into a model"
                                        : " is left out: weights in their maker's own form"));
  }
  return notes;
}

bool holds_weights(const fs::path& folder) {
  std::vector<fs::path> files = list(folder);
  std::erase_if(files,
                [](const fs::path& file) { return weights_kind(file) == WeightsKind::kTraining; });
  const auto is_named_so = [](const fs::path& file) {
    const std::string name = file.filename().string();
    const bool foreign = std::ranges::any_of(
        kForeign, [&](const auto& maker) { return name.ends_with(maker.first); });
    const bool index = name.find(".index.") != name.npos && name.ends_with(".json");
    return foreign || index || name.ends_with(kGgufExtension);
  };
  // Names first: to look into files takes longer.
  return std::ranges::any_of(files, is_named_so) ||
         std::ranges::any_of(
             files, [](const fs::path& file) { return weight_format_of(file) != nullptr; });
}

void fail_without_weights(const fs::path& folder) {
  std::string other;
  std::string foreign;
  std::string cached;
  for (const fs::path& file : list(folder)) {  // sorted, so the first of a kind is named
    const std::string name = file.filename().string();
    if (cached.empty() && name.starts_with("models--")) cached = name;
    for (const auto& [end, maker] : kForeign) {
      if (foreign.empty() && name.ends_with(end))
        foreign = quote(name) + " of " + std::string(maker);
    }
    if (!other.empty() || weights_kind(file) == WeightsKind::kTraining) continue;
    if (file.extension() == kGgufExtension || weight_format_of(file) != nullptr) other = name;
  }
  std::string text = folder.string() + ": holds";
  std::string_view joint = " no ";
  for (const WeightFormat& format : weight_formats()) {
    text += joint;
    text +=
        format.prefix.empty() ? std::string(format.suffix()) + " file" : std::string(format.single);
    joint = " and no ";
  }
  if (!other.empty())
    throw Error(text + ", but " + quote(other) + ": name that file to open it alone");
  if (!cached.empty()) {
    throw Error(text + ", but models of a Hugging Face cache: name " + quote(cached) + " in it");
  }
  if (!foreign.empty()) {
    throw Error(text + ", but " + foreign + ", which is not read: fetch the model's safetensors");
  }
  throw Error(text);
}

}  // namespace berth

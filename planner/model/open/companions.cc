#include "planner/model/open/companions.h"

#include <simdjson.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/model/open/formats.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// As transformers and tokenizers name them.
constexpr const char* kNames[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
    "quantization_config.json",
};

constexpr std::uint64_t kMostConfig = 16u << 20;

// As a JSON string.
std::string quoted_name(DType dtype) { return '"' + std::string(torch_dtype_name(dtype)) + '"'; }

std::vector<Companion> companions_in(const fs::path& folder, std::optional<DType> dtype) {
  std::vector<Companion> found;
  for (const char* name : kNames) {
    const fs::path file = folder / name;
    std::error_code ignored;
    if (!fs::is_regular_file(file, ignored)) continue;
    if (dtype && std::string_view(name) == "config.json") {
      found.push_back(
          {name, {}, with_dtype(read_text_file(file, kMostConfig), *dtype, file.string())});
    } else {
      found.push_back({name, file, {}});
    }
  }
  return found;
}

std::vector<Companion> companions_inside(const WholeFormat& format, const fs::path& file,
                                         DType dtype, std::vector<std::string>& notes) {
  const std::string config = format.open(file).config_json;
  std::vector<Companion> made;
  if (config.empty()) {
    notes.push_back("no config.json: " + file.string() +
                    " keeps the names that are in it, which transformers does not read");
  } else {
    made.push_back(
        {"config.json", {}, "{\"torch_dtype\": " + quoted_name(dtype) + ", " + config.substr(1)});
  }
  for (const InsideText& text : format.texts) {
    const std::string name(text.name);
    try {
      made.push_back({name, {}, text.text(file, {})});
    } catch (const Error& error) {
      if (!text.optional) throw;
      notes.push_back("no " + name + ": " + error.what());
    }
  }
  return made;
}

}  // namespace

std::string with_dtype(const std::string& config, DType dtype, const std::string& source) {
  const simdjson::padded_string padded(config);
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser.iterate(padded).get(document) || document.get_object().get(object)) {
    throw Error(source + ": is not a JSON object");
  }
  std::vector<std::pair<std::size_t, std::size_t>> places;  // offset and length of each value
  for (auto result : object) {
    simdjson::ondemand::field field;
    std::string_view key;
    if (std::move(result).get(field) || field.unescaped_key().get(key)) {
      throw Error(source + ": is not valid JSON");
    }
    if (key != "torch_dtype" && key != "dtype") continue;
    simdjson::ondemand::value value = field.value();
    simdjson::ondemand::json_type type{};
    std::string_view token = value.raw_json_token();
    if (value.type().get(type) || type != simdjson::ondemand::json_type::string) continue;
    // The raw token reaches up to the next one.
    while (!token.empty() && token.back() != '"') token.remove_suffix(1);
    places.emplace_back(token.data() - padded.data(), token.size());
  }
  std::string text = config;
  std::ranges::sort(places, std::greater<>());
  for (const auto& [offset, length] : places) {
    text.replace(offset, length, quoted_name(dtype));
  }
  return text;
}

fs::path folder_of(const Model& model) {
  fs::path folder = model.path;
  if (model.checkpoint) {
    folder = model.checkpoint->folder;
  } else if (!fs::is_directory(folder)) {
    folder = folder.parent_path();
  }
  return folder.empty() ? "." : folder;
}

fs::path file_beside(const Model& model, std::string_view name) {
  if (model.checkpoint && whole_format(model.checkpoint->format) != nullptr) return {};
  fs::path file = folder_of(model) / name;
  return fs::exists(file) ? file : fs::path();
}

std::optional<Companion> tokenizer_json(const Model& model) {
  const std::string name = "tokenizer.json";
  if (fs::path file = file_beside(model, name); !file.empty()) {
    return Companion{name, std::move(file), {}};
  }
  const WholeFormat* const whole =
      model.checkpoint ? whole_format(model.checkpoint->format) : nullptr;
  if (whole == nullptr) return std::nullopt;
  const auto text = std::ranges::find(whole->texts, name, &InsideText::name);
  if (text == whole->texts.end()) return std::nullopt;
  return Companion{name, {}, text->text(model.checkpoint->shards[0].path, {})};
}

std::vector<Companion> companions_of(const Checkpoint& checkpoint, std::optional<DType> dtype,
                                     std::vector<std::string>& notes) {
  const WholeFormat* const whole = whole_format(checkpoint.format);
  if (whole == nullptr) return companions_in(checkpoint.folder, dtype);
  return companions_inside(*whole, checkpoint.shards[0].path, dtype.value(), notes);
}

}  // namespace berth

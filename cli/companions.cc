#include "cli/companions.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"

namespace berth {
namespace {

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
    while (!token.empty() && token.back() != '"') token.remove_suffix(1);  // it reaches to the next
    places.emplace_back(token.data() - padded.data(), token.size());
  }
  std::string text = config;
  std::ranges::sort(places, std::greater<>());
  for (const auto& [offset, length] : places) {
    text.replace(offset, length, fmt::format("\"{}\"", torch_dtype_name(dtype)));
  }
  return text;
}

std::vector<Companion> companions_in(const std::filesystem::path& folder,
                                     std::optional<DType> dtype) {
  std::vector<Companion> found;
  for (const char* name : kNames) {
    const std::filesystem::path file = folder / name;
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(file, ignored)) continue;
    if (dtype && std::string_view(name) == "config.json") {
      found.push_back(
          {name, {}, with_dtype(read_text_file(file, kMostConfig), *dtype, file.string())});
    } else {
      found.push_back({name, file, {}});
    }
  }
  return found;
}

}  // namespace berth

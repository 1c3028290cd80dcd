#include "runtime/text/tokenizer_config.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostBytes = 64u << 20;

// Types of models whose tokenizers transformers 5.24 reads from tokenizer.json whatever class is
// named (models/auto/tokenization_auto.py, TOKENIZER_MAPPING_NAMES).
constexpr std::string_view kOfFile[] = {"mistral", "mixtral", "phi3", "qwen2"};

// Classes that heed the key. Of the first, what they then do is known here.
constexpr std::string_view kMetaspace[] = {"LlamaTokenizer", "CodeLlamaTokenizer"};
constexpr std::string_view kByteLevel[] = {"GPT2Tokenizer", "Qwen2Tokenizer"};

bool has(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

struct Said {
  std::optional<std::string> cls;
  std::optional<bool> prefix;
};

// Only the two values are looked at: others may be numbers of any size, as model_max_length is.
Said read(const std::filesystem::path& file) {
  const simdjson::padded_string text(read_text_file(file, kMostBytes));
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser.iterate(text).get(document) || document.get_object().get(object)) {
    throw Error(file.string() + ": is not a JSON object");
  }
  Said said;
  std::string_view cls;
  bool prefix = false;
  if (!object.find_field_unordered("tokenizer_class").get_string().get(cls)) said.cls = cls;
  if (!object.find_field_unordered("add_prefix_space").get_bool().get(prefix)) {
    said.prefix = prefix;
  }
  return said;
}

}  // namespace

TokenizerSteps read_tokenizer_steps(const std::filesystem::path& tokenizer_config,
                                    std::string_view model_type) {
  const Said said = read(tokenizer_config);
  if (!said.cls || !said.prefix || has(kOfFile, model_type)) return TokenizerSteps::kOfFile;
  std::string_view cls = *said.cls;
  if (cls.ends_with("Fast")) cls.remove_suffix(std::string_view("Fast").size());
  if (cls == kMetaspace[0] && !*said.prefix) return TokenizerSteps::kLlamaWithoutPrefix;
  if ((has(kMetaspace, cls) && !*said.prefix) || (has(kByteLevel, cls) && *said.prefix)) {
    throw Error(tokenizer_config.string() + ": add_prefix_space: " +
                (*said.prefix ? "true" : "false") + " is not supported with " + quote(cls));
  }
  return TokenizerSteps::kOfFile;
}

}  // namespace berth

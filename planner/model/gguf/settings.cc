// Writes tokenizer_config.json and generation_config.json from GGUF's metadata: the files that lie
// beside the tokenizer in a checkpoint's folder.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "planner/base/json_text.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/model/gguf/family.h"
#include "planner/model/gguf/gguf.h"

namespace berth {
namespace {

GgufHeader read_header(const std::filesystem::path& file, const CheckpointLimits& limits) {
  Shard identity;
  return read_gguf_header(file, limits, identity);
}

void add_special_tokens(JsonObject& json, const GgufHeader& header) {
  const std::vector<std::string_view> tokens = header.texts("tokenizer.ggml.tokens");
  if (tokens.empty()) header.fail("tokenizer.ggml.tokens", "is missing or empty");
  for (const auto& [theirs, ours] :
       {std::pair("bos_token", "bos"), std::pair("eos_token", "eos"),
        std::pair("unk_token", "unknown"),
        std::pair("sep_token", "seperator"),  // GGUF spells it this way
        std::pair("pad_token", "padding"), std::pair("cls_token", "cls"),
        std::pair("mask_token", "mask")}) {
    const std::string key = "tokenizer.ggml." + std::string(ours) + "_token_id";
    const auto id = header.unsigned_integer(key);
    if (!id) continue;
    if (*id >= tokens.size()) header.fail(key, "is outside the vocabulary");
    json.add(theirs, tokens[*id]);
  }
}

}  // namespace

std::string gguf_tokenizer_config_json(const std::filesystem::path& file,
                                       const CheckpointLimits& limits) {
  const GgufHeader header = read_header(file, limits);
  JsonObject json;
  json.add("tokenizer_class", "PreTrainedTokenizerFast");
  add_special_tokens(json, header);
  for (const char* name : {"add_bos_token", "add_eos_token"}) {
    if (const auto add = header.boolean("tokenizer.ggml." + std::string(name)))
      json.add(name, *add);
  }
  const std::string architecture(header.text("general.architecture").value_or(""));
  if (const auto longest = header.unsigned_integer(architecture + ".context_length")) {
    json.add("model_max_length", *longest);
  }
  json.add("clean_up_tokenization_spaces", false);
  if (const auto text = header.text("tokenizer.chat_template")) json.add("chat_template", *text);
  return json.take() + "\n";
}

std::string gguf_generation_config_json(const std::filesystem::path& file,
                                        const CheckpointLimits& limits) {
  const GgufHeader header = read_header(file, limits);
  JsonObject json;
  add_special_ids(json, header);
  return json.take() + "\n";
}

}  // namespace berth

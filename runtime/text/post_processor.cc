#include "runtime/text/post_processor.h"

#include "planner/base/quote.h"
#include "runtime/text/step_table.h"
#include "runtime/text/token_id.h"

namespace berth {
namespace {

// Appends the ids of the special token that a template calls `name`.
void append_ids(const JsonValue& special_tokens, const JsonValue& name,
                std::vector<std::int64_t>& ids) {
  const auto token = special_tokens.get(name.text());
  if (!token) name.fail(quote(name.text()) + " is not among the special_tokens");
  for (const JsonValue& id : token->require("ids").list()) ids.push_back(token_id(id));
}

SpecialIds read_byte_level(const JsonValue&) { return {}; }  // it is about offsets only

SpecialIds read_template(const JsonValue& value) {
  const auto single = value.require("single");
  const auto special_tokens = value.require("special_tokens");
  SpecialIds ids;
  bool met = false;  // the text A has been met
  for (const JsonValue& piece : single.list()) {
    if (const auto token = piece.get("SpecialToken")) {
      append_ids(special_tokens, token->require("id"), met ? ids.after : ids.before);
      continue;
    }
    if (piece.require("Sequence").require("id").text() != "A" || met) {
      piece.fail("is not supported: the template must hold the text A once");
    }
    met = true;
  }
  if (!met) single.fail("does not hold the text A");
  return ids;
}

// BERT's and RoBERTa's: "cls" and "sep" are pairs of a token and its id.
SpecialIds read_pair(const JsonValue& value) {
  const auto id = [&](std::string_view key) {
    const auto pair = value.require(key);
    const auto parts = pair.list();
    if (parts.size() != 2) pair.fail("must be a token and its id");
    return std::int64_t{token_id(parts[1])};
  };
  return {{id("cls")}, {id("sep")}};
}

// Once a step has added tokens, Hugging Face hands several texts to the steps after it. Of these,
// only ByteLevel is supported, which leaves the ids as they are.
SpecialIds read_sequence(const JsonValue& value) {
  SpecialIds ids;
  for (const JsonValue& step : value.require("processors").list()) {
    if (step.type() == "ByteLevel") continue;
    if (!ids.before.empty() || !ids.after.empty()) {
      step.fail("is not supported after a step that adds tokens");
    }
    ids = read_post_processor(step);
  }
  return ids;
}

constexpr StepRow<SpecialIds> kPostProcessors[] = {
    {"ByteLevel", read_byte_level},   {"TemplateProcessing", read_template},
    {"RobertaProcessing", read_pair}, {"BertProcessing", read_pair},
    {"Sequence", read_sequence},
};

}  // namespace

SpecialIds read_post_processor(const std::optional<JsonValue>& value) {
  return value ? make_step(kPostProcessors, *value) : SpecialIds{};
}

}  // namespace berth

#include "planner/model/tree/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "berth/error.h"
#include "planner/model/template/complete.h"

namespace berth {
namespace {

using testing::HasSubstr;

ModelConfig parse(std::string_view json) { return ModelConfig::parse(json, "config.json"); }

std::string error_of(const std::string& json) {
  try {
    parse(json);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(ModelConfig, AnswersByDottedKeyAndType) {
  const ModelConfig config = parse(
      R"({"model_type":"llama","hidden_size":64,"eps":1e-5,"use":true,"none":null,
          "deep":{"er":{"n":3}},"types":["a","b"],"whole":4096.0})");
  EXPECT_EQ(config.model_type(), "llama");
  EXPECT_EQ(config.integer("hidden_size"), 64);
  EXPECT_EQ(config.number("hidden_size"), 64.0);
  EXPECT_EQ(config.number("eps"), 1e-5);
  EXPECT_EQ(config.boolean("use"), true);
  EXPECT_EQ(config.integer("deep.er.n"), 3);
  EXPECT_EQ(config.integer("whole"), 4096);
  EXPECT_EQ(config.list("types").size(), 2u);
  EXPECT_EQ(config.integer("none"), std::nullopt);
  EXPECT_FALSE(config.has("none"));
  EXPECT_FALSE(config.has("absent"));
  EXPECT_TRUE(config.list("absent").empty());
}

TEST(ModelConfig, NamesTheKeyOfAnotherType) {
  const ModelConfig config = parse(R"({"a":"x","b":[1],"c":1.5})");
  const auto message = [&](auto ask) {
    try {
      ask();
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(message([&] { config.integer("a"); }), "config.json: a: not an integer");
  EXPECT_EQ(message([&] { config.integer("c"); }), "config.json: c: not an integer");
  EXPECT_EQ(message([&] { config.number("b"); }), "config.json: b: not a number");
  EXPECT_EQ(message([&] { config.boolean("a"); }), "config.json: a: neither true nor false");
  EXPECT_EQ(message([&] { config.text("c"); }), "config.json: c: not a string");
  EXPECT_EQ(message([&] { config.list("a"); }), "config.json: a: not a list");
  EXPECT_EQ(message([&] { config.require_integer("d"); }), "config.json: d: missing");
}

TEST(ModelConfig, ReadsOldAndNewRotarySpellingsAlike) {
  const ModelConfig old = parse(
      R"({"rope_theta":500000.0,"rope_scaling":{"type":"linear","factor":4.0},"torch_dtype":"bfloat16"})");
  const ModelConfig fresh = parse(
      R"({"rope_parameters":{"rope_theta":500000.0,"rope_type":"linear","factor":4.0},"dtype":"bfloat16"})");
  for (const ModelConfig& config : {old, fresh}) {
    EXPECT_EQ(config.number("rope_parameters.rope_theta"), 500000.0);
    EXPECT_EQ(config.text("rope_parameters.rope_type"), "linear");
    EXPECT_EQ(config.number("rope_parameters.factor"), 4.0);
    EXPECT_EQ(config.text("dtype"), "bfloat16");
  }
}

TEST(ModelConfig, SettlesOtherRotarySpellings) {
  const ModelConfig neox = complete_config(
      parse(R"({"model_type":"gpt_neox","rotary_pct":0.5,"rotary_emb_base":20000})"));
  EXPECT_EQ(neox.number("rope_parameters.partial_rotary_factor"), 0.5);
  EXPECT_EQ(neox.number("rope_parameters.rope_theta"), 20000.0);
  EXPECT_EQ(neox.text("rope_parameters.rope_type"), "default");
  const ModelConfig phi = complete_config(parse(
      R"({"model_type":"phi3","rope_scaling":{"type":"su","short_factor":[1,2],"long_factor":[3,4]}})"));
  EXPECT_EQ(phi.text("rope_parameters.rope_type"), "longrope");
  EXPECT_EQ(phi.list("rope_parameters.short_factor").size(), 2u);
  // An old key that was left behind does not override the new spelling.
  const ModelConfig both = parse(R"({"rope_theta":1.0,"rope_parameters":{"rope_theta":2.0}})");
  EXPECT_EQ(both.number("rope_parameters.rope_theta"), 2.0);
}

TEST(ModelConfig, LetsTheSameOfTwoRotaryPlacesWinAsTransformers) {
  const ModelConfig scaling = parse(
      R"({"rope_parameters":{"rope_theta":2.0,"low_freq_factor":1},"rope_theta":3.0,
          "rope_scaling":{"type":"linear","rope_type":"yarn","factor":4}})");
  EXPECT_EQ(scaling.text("rope_parameters.rope_type"), "yarn");
  EXPECT_EQ(scaling.number("rope_parameters.rope_theta"), 3.0);  // not that of the lost place
  EXPECT_FALSE(scaling.has("rope_parameters.low_freq_factor"));
  for (const char* none : {"{}", "null"}) {
    const ModelConfig empty = parse(std::string(R"({"rope_parameters":{"rope_theta":2.0},
        "rope_scaling":)") + none + "}");
    EXPECT_EQ(empty.number("rope_parameters.rope_theta"), 2.0) << none;
  }
  const ModelConfig length = parse(
      R"({"original_max_position_embeddings":8,
          "rope_parameters":{"original_max_position_embeddings":16}})");
  EXPECT_EQ(length.integer("rope_parameters.original_max_position_embeddings"), 8);
}

TEST(ModelConfig, TellsANullFromAKeyThatIsLeftOut) {
  const ModelConfig config = parse(R"({"a":null,"deep":{"b":null},"text_config":{"c":null}})");
  for (const char* key : {"a", "deep.b", "c"}) {
    EXPECT_TRUE(config.is_null(key)) << key;
    EXPECT_FALSE(config.has(key)) << key;
  }
  EXPECT_FALSE(config.is_null("d"));
}

TEST(ModelConfig, PromotesTheTextConfigOfMultimodalModels) {
  const ModelConfig config = parse(
      R"({"model_type":"gemma3","text_config":{"model_type":"gemma3_text","hidden_size":8,"rope_theta":3}})");
  EXPECT_EQ(config.model_type(), "gemma3");
  EXPECT_EQ(config.integer("hidden_size"), 8);
  EXPECT_EQ(config.number("rope_parameters.rope_theta"), 3.0);
}

TEST(ModelConfig, KeepsListsOfObjectsByElement) {
  const ModelConfig config = parse(R"({"a":[{"n":1},{"n":2}],"b":[1,null]})");
  EXPECT_EQ(config.integer("a.1.n"), 2);
  EXPECT_TRUE(config.list("a").empty());
  EXPECT_TRUE(config.list("b").empty());  // the elements must never be shifted
}

TEST(ModelConfig, RefusesWhatIsNoJsonObject) {
  for (const char* json :
       {"", "[]", "1", "{", R"({"a":1)", R"({"a":1}})", R"({"a":1} x)", R"({"a":})", R"({"a" 1})",
        "{\"a\":\"\xff\"}", R"({"a":tru})", R"({"a":nul})", R"({"a":01})"}) {
    EXPECT_THAT(error_of(json), testing::StartsWith("config.json: ")) << json;
  }
  EXPECT_THAT(error_of(R"({"layers":123456789012345678901234567890})"), HasSubstr("'layers'"));
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += R"({"a":)";
  EXPECT_NE(error_of(deep + "1" + std::string(100, '}')), "");
  std::string lists = R"({"a":)" + std::string(100, '[') + std::string(100, ']') + "}";
  EXPECT_THAT(error_of(lists), HasSubstr("nested deeper"));
}

// As Python's json module, which transformers reads its configs with.
TEST(ModelConfig, ReadsWhatPythonWritesThoughItIsNoJson) {
  const ModelConfig config = ModelConfig::parse(
      R"({"a": NaN, "limits": [0.0, Infinity,-Infinity], "b":{"c":-Infinity}, "d": 7})", "c");
  EXPECT_TRUE(std::isnan(config.number("a").value()));
  EXPECT_EQ(config.number("b.c"), -HUGE_VAL);
  EXPECT_EQ(config.list("limits")[1], ModelConfig::Value(HUGE_VAL));
  EXPECT_EQ(config.list("limits")[2], ModelConfig::Value(-HUGE_VAL));
  EXPECT_EQ(config.integer("d"), 7);
  EXPECT_THAT(error_of(R"({"a": Infinite})"), HasSubstr("not"));
  EXPECT_THAT(error_of(R"({"a": nan})"), HasSubstr("not"));
}

TEST(ModelConfig, TakesTheLastOfAKeyThatComesTwice) {
  const ModelConfig config = ModelConfig::parse(
      R"({"a": 1, "x": {"b": 1, "c": [1]}, "a": 2, "x": {"d": 3}, "xy": 4})", "c");
  EXPECT_EQ(config.integer("a"), 2);
  EXPECT_FALSE(config.has("x.b"));
  EXPECT_FALSE(config.has("x.c"));
  EXPECT_EQ(config.integer("x.d"), 3);
  EXPECT_EQ(config.integer("xy"), 4);
}

}  // namespace
}  // namespace berth

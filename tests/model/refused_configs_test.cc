// What templates refuse, and how: a config that says what its template cannot plan gets an error
// that names the key, never a plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using testing::HasSubstr;

std::string error_of(const std::string& config) {
  test::TempFolder folder;
  folder.write("config.json", config);
  try {
    open_model(folder / "config.json", std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(RefusedConfigs, PatternsOfUnknownLetters) {
  EXPECT_THAT(error_of(R"({"model_type":"nemotron_h","hybrid_override_pattern":"M-*X"})"),
              HasSubstr("hybrid_override_pattern: 'X' is none of M, "));
}

TEST(RefusedConfigs, LayersOfAnUnknownKind) {
  EXPECT_THAT(error_of(R"({"model_type":"qwen3_next","num_hidden_layers":2,
                           "layer_types":["full_attention","sliding_attention"]})"),
              HasSubstr("layer_types: 'sliding_attention' is none of linear_attention, full_"));
}

TEST(RefusedConfigs, ListsThatAreShorterThanTheModel) {
  EXPECT_THAT(error_of(R"({"model_type":"lfm2","num_hidden_layers":3,
                           "layer_types":["conv","full_attention"]})"),
              HasSubstr("layer_types"));
}

TEST(RefusedConfigs, ClassesThatAreUnknownArePlannedAsTheWholeModelAndNoted) {
  test::TempFolder folder;
  folder.write("config.json",
               R"({"model_type":"granite","architectures":["GraniteForSomethingElse"]})");
  const ModelTree tree = open_model(folder / "config.json", std::nullopt).tree;
  EXPECT_EQ(tree.modules[0].cls, "GraniteForCausalLM");
  ASSERT_EQ(tree.notes.size(), 1u);
  EXPECT_THAT(tree.notes[0],
              testing::EndsWith("architectures: the template of granite models does not know "
                                "'GraniteForSomethingElse'; planned as GraniteForCausalLM"));
}

}  // namespace
}  // namespace berth

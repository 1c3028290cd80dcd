// The files that describe a model: beside its weights, or out of its only file.
#include "planner/model/open/companions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/model/open/formats.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/model/tiny_gguf.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> names(const std::vector<Companion>& companions) {
  std::vector<std::string> all;
  for (const Companion& companion : companions) all.push_back(companion.name);
  return all;
}

TEST(Companions, OfAFolderAreItsFilesAndOnlyAChangedConfigIsAText) {
  const test::TempFolder folder;
  test::write_safetensors(folder / "model.safetensors", {{"w", DType::kF32, {2}}});
  folder.write("config.json", R"({"torch_dtype": "float32"})");
  folder.write("tokenizer.json", "{}");
  folder.write("README.md", "no companion");
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  std::vector<std::string> notes;
  const std::vector<Companion> copied = companions_of(checkpoint, std::nullopt, notes);
  EXPECT_THAT(names(copied), ElementsAre("config.json", "tokenizer.json"));
  EXPECT_EQ(copied[0].from, folder / "config.json");
  const std::vector<Companion> changed = companions_of(checkpoint, DType::kF16, notes);
  EXPECT_EQ(changed[0].from, "");
  EXPECT_EQ(changed[0].text, R"({"torch_dtype": "float16"})");
  EXPECT_EQ(changed[1].from, folder / "tokenizer.json");
  EXPECT_THAT(notes, ElementsAre());
}

TEST(Companions, OfAWholeModelAreTextsWhateverLiesBesideIt) {
  const test::TempFolder folder;
  testing::tiny_gguf().write(folder / "m.gguf");
  folder.write("tokenizer.json", "of another model");
  folder.write("generation_config.json", "{}");
  const Model model = open_model(folder / "m.gguf", std::nullopt);
  std::vector<std::string> notes;
  const std::vector<Companion> made = companions_of(*model.checkpoint, DType::kBF16, notes);
  EXPECT_THAT(names(made), ElementsAre("config.json", "generation_config.json", "tokenizer.json",
                                       "tokenizer_config.json"));
  for (const Companion& companion : made) EXPECT_EQ(companion.from, "");
  EXPECT_THAT(made[0].text, StartsWith(R"({"torch_dtype": "bfloat16", )"));
  EXPECT_THAT(notes, ElementsAre());
  EXPECT_THAT(tokenizer_json(model)->text, HasSubstr("<|end|>"));
  EXPECT_EQ(file_beside(model, "generation_config.json"), "");
}

TEST(Companions, ATokenizerThatCannotBeMadeIsANote) {
  const test::TempFolder folder;
  testing::tiny_gguf("no such tokenizer").write(folder / "m.gguf");
  const Model model = open_model(folder / "m.gguf", std::nullopt);
  std::vector<std::string> notes;
  EXPECT_THAT(names(companions_of(*model.checkpoint, DType::kBF16, notes)),
              ElementsAre("config.json", "generation_config.json", "tokenizer_config.json"));
  EXPECT_THAT(notes, ElementsAre(HasSubstr("no tokenizer.json: ")));
  EXPECT_THROW(tokenizer_json(model), Error);
}

TEST(Companions, ATokenizerLiesBesideTheWeightsOrNowhere) {
  const test::TempFolder folder;
  test::write_safetensors(folder / "a.safetensors", {{"w", DType::kF32, {2}}});
  const Model model = open_model(folder / "a.safetensors", std::nullopt);
  EXPECT_FALSE(tokenizer_json(model));
  folder.write("tokenizer.json", "{}");
  EXPECT_EQ(tokenizer_json(model)->from, folder / "tokenizer.json");
}

TEST(Companions, OnlyTheDtypeOfAConfigChanges) {
  const auto changed = [](const char* text) { return with_dtype(text, DType::kBF16, "c"); };
  EXPECT_EQ(changed(R"({"a": 1, "torch_dtype" : "float32" , "sub": {"dtype": "float32"}})"),
            R"({"a": 1, "torch_dtype" : "bfloat16" , "sub": {"dtype": "float32"}})");
  EXPECT_EQ(changed(R"({"dtype":"float16","torch_dtype":null})"),
            R"({"dtype":"bfloat16","torch_dtype":null})");
  EXPECT_EQ(changed(R"({"a": NaN, "b": [0.0, Infinity], "dtype": "float16", "c": -Infinity})"),
            R"({"a": NaN, "b": [0.0, Infinity], "dtype": "bfloat16", "c": -Infinity})");
  EXPECT_EQ(changed("{}"), "{}");
  EXPECT_THROW(changed("[]"), Error);
}

}  // namespace
}  // namespace berth

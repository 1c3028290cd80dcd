#include "planner/model/open/tree_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::TempFolder;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kTree = R"({
  "no_split_classes": ["Block"],
  "ties": [["head.weight", "body.embed.weight"]],
  "root": {"name": "", "cls": "Group", "params": [], "buffers": [
      {"name": "mask", "dtype": "BOOL", "shape": [3]}], "children": [
    {"name": "body", "cls": "Group", "params": [{"name": "scale", "dtype": "F32", "shape": []}],
     "buffers": [], "children": [
      {"name": "embed", "cls": "Leaf", "params": [{"name": "weight", "dtype": "F16", "shape": [4, 2]}],
       "buffers": [], "children": []},
      {"name": "0", "cls": "Block", "params": [], "buffers": [], "children": [
        {"name": "in", "cls": "Leaf", "params": [{"name": "weight", "dtype": "F16", "shape": [2, 2]}],
         "buffers": [{"name": "mean", "dtype": "I64", "shape": [2]}], "children": []}]}]},
    {"name": "head", "cls": "Leaf", "params": [{"name": "weight", "dtype": "F16", "shape": [4, 2]}],
     "buffers": [], "children": []}]}})";

ModelTree read(const std::string& json, std::optional<DType> dtype = std::nullopt) {
  TempFolder folder;
  folder.write("tree.json", json);
  return read_tree_json(folder / "tree.json", dtype);
}

std::string error_of(std::string from, const std::string& to) {
  std::string json = kTree;
  json.replace(json.find(from), from.size(), to);
  try {
    read(json);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(TreeJson, KeepsRegistrationOrder) {
  const ModelTree tree = read(kTree);
  EXPECT_EQ(tree.name, "tree");
  EXPECT_EQ(tree.model_type, "");
  std::vector<std::string> names;
  for (const Module& module : tree.modules) names.emplace_back(module.name);
  EXPECT_THAT(names, testing::ElementsAre("", "body", "body.embed", "body.0", "body.0.in", "head"));
  EXPECT_TRUE(tree.modules[3].no_split);
  EXPECT_TRUE(tree.tensors[0].buffer);
  EXPECT_EQ(tree.tensors[0].name, "mask");
}

TEST(TreeJson, LetsTheFirstRegisteredOfATieHoldTheBytes) {
  const ModelTree tree = read(kTree);
  ASSERT_EQ(tree.ties.size(), 1u);
  EXPECT_EQ(tree.tensors[tree.ties[0][0]].name, "body.embed.weight");
  EXPECT_EQ(tree.tensors[tree.ties[0][1]].tied_to, tree.ties[0][0]);
  EXPECT_EQ(tree.bytes(), 3u + 4u + 16u + 8u + 16u);
  EXPECT_EQ(tree.parameters(), 1u + 8u + 4u);
}

TEST(TreeJson, GivesDirectTensorsTheirOwnUnit) {
  const ModelTree tree = read(kTree);
  std::vector<std::string> names;
  for (const ModuleId id : execution_units(tree)) names.emplace_back(tree.modules[id].name);
  EXPECT_THAT(names, testing::ElementsAre("", "body", "body.embed", "body.0", "head"));
}

TEST(TreeJson, IsWhatOpenModelMakesOfAJsonFileWithARoot) {
  TempFolder folder;
  folder.write("anything.json", kTree);
  const Model model = open_model(folder / "anything.json", DType::kF32);
  EXPECT_FALSE(model.config);
  EXPECT_FALSE(model.checkpoint);
  EXPECT_EQ(model.tree.tensors[2].stored, DType::kF16);
  EXPECT_EQ(model.tree.tensors[2].dtype, DType::kF32);
}

TEST(TreeJson, NamesThePlaceOfAMistake) {
  EXPECT_THAT(error_of(R"("dtype": "BOOL")", R"("dtype": "B1")"),
              EndsWith("tree.json: root.buffers[0].dtype: unknown dtype 'B1'"));
  EXPECT_THAT(error_of(R"("shape": [3])", R"("shape": [-3])"),
              EndsWith("root.buffers[0].shape[0]: must be a whole number, 0 or more"));
  EXPECT_THAT(error_of(R"("shape": [3])", R"("shape": 3)"),
              EndsWith("root.buffers[0].shape: must be a list"));
  EXPECT_THAT(error_of(R"("no_split_classes": [)", R"("no_split_classes": [7, )"),
              EndsWith("no_split_classes[0]: must be a string"));
  EXPECT_THAT(error_of(R"("shape": [3])", R"("shape": [9223372036854775807, 8])"),
              HasSubstr("root.buffers[0]"));
  EXPECT_THAT(error_of(R"("cls": "Leaf", )", ""), HasSubstr("'cls' is missing"));
  EXPECT_THAT(error_of(R"("name": "head")", R"("name": "body")"),
              HasSubstr("'body' appears twice"));
  EXPECT_THAT(error_of(R"("name": "head")", R"("name": "he.ad")"), HasSubstr("not a plain name"));
  EXPECT_THAT(error_of(R"("head.weight")", R"("tail.weight")"),
              EndsWith("ties[0]: no tensor 'tail.weight'"));
  EXPECT_THAT(error_of(R"("head.weight")", R"("body.scale")"),
              HasSubstr("differ in shape or dtype"));
  EXPECT_THAT(error_of(R"("head.weight")", R"("body.embed.weight")"), HasSubstr("tied twice"));
  EXPECT_THAT(error_of(R"("root": )", R"("tree": )"), HasSubstr("'root' is missing"));
  EXPECT_THAT(error_of(R"("ties": )", R"("ties" )"), HasSubstr("not valid JSON"));
}

TEST(TreeJson, LimitsNesting) {
  std::string json = R"({"root":)";
  for (int i = 0; i < 300; ++i) {
    json += std::string(R"({"name":")") + (i == 0 ? "" : "a") + R"(","cls":"A","children":[)";
  }
  for (int i = 0; i < 300; ++i) json += "]}";
  try {
    read(json + "}");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("nested deeper"));
  }
}

}  // namespace
}  // namespace berth

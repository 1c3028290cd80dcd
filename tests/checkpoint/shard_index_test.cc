// Shard indexes in the usual spelling and in others: either reader must give the same answer.
#include "planner/checkpoint/safetensors/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

using Entries = std::vector<std::pair<std::string, std::string>>;

Entries entries_of(const std::string& json) {
  const ShardIndex index = parse_shard_index(json, "test");
  Entries out;
  for (const auto& entry : index.entries) {
    out.emplace_back(entry.tensor, index.shards[entry.shard]);
  }
  return out;
}

std::optional<Entries> entries_or_none(const std::string& json) {
  try {
    return entries_of(json);
  } catch (const Error&) {
    return std::nullopt;
  }
}

TEST(ShardIndex, ReadsEverySpelling) {
  const auto expected = ElementsAre(Pair("a", "2.safetensors"), Pair("b.c", "1.safetensors"));
  const std::string map = R"("weight_map": {"a": "2.safetensors", "b.c": "1.safetensors"})";
  for (const std::string& json :
       {"{" + map + "}", R"({"metadata": {"total_size": 12}, )" + map + "}",
        R"({"metadata": {"total_parameters": 3, "total_size": 12}, )" + map + "}\n",
        R"({"metadata":{},)" + map + "}", R"({"metadata": {"total_size": 12.0}, )" + map + "}",
        R"({"metadata": {"by": "a tool"}, )" + map + "}",
        "{" + map + R"(, "metadata": {"total_size": 12}})",
        std::string(R"({"weight_map":{"\u0061":"2.safetensors","b.c":"1.safe\u0074ensors"}})"),
        std::string("{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n    "
                    "\"a\": \"2.safetensors\",\n    \"b.c\": \"1.safetensors\"\n  }\n}\n")}) {
    EXPECT_THAT(entries_of(json), expected) << json;
  }
}

TEST(ShardIndex, AcceptsNothingThatTheParserRefuses) {
  std::mt19937 random(20261126);
  const auto upto = [&](std::size_t n) { return static_cast<std::uint32_t>(random() % n); };
  const std::string bits = "{}[],:\"\\0123456789 a\n\x01\x80";
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string map = "\"weight_map\": {";
    const std::uint32_t tensors = 1 + upto(4);
    for (std::uint32_t i = 0; i < tensors; ++i) {
      map += (i == 0 ? "\"t" : ", \"t") + std::to_string(upto(20)) + "\": \"" +
             std::to_string(upto(3)) + ".safetensors\"";
    }
    map += "}";
    if (upto(2) == 0) map[upto(map.size())] = bits[upto(bits.size())];
    // Metadata that holds text, or that stands last, is not in the usual spelling.
    const auto plain = entries_or_none(R"({"metadata": {"total_size": 12}, )" + map + "}");
    ASSERT_EQ(plain, entries_or_none(R"({"metadata": {"total_size": ""}, )" + map + "}")) << map;
    accepted += plain.has_value();
  }
  EXPECT_GT(accepted, 5'000);
}

}  // namespace
}  // namespace berth

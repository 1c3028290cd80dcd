// Checks, for every file of corpus/checksums, which rule it breaks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "berth/error.h"
#include "runtime/verify/checksums.h"
#include "tests/fuzz/checksums_model.h"

namespace berth {
namespace {

// File name to a part of the message; "" for a valid file.
const std::map<std::string, std::string> kExpected = {
    {"array", "'format' is missing or not a string"},
    {"digest_number", "'xxh3' is missing or not a string"},
    {"digest_short", "tensor 'a': 'xxh3' is not 32 lower-case hex digits"},
    {"no_format", "'format' is missing or not a string"},
    {"no_shards", "'shards' is missing or not an array"},
    {"not_json", "not valid JSON"},
    {"ok", ""},
    {"other_algorithm", "not a checksum file that this version of Berth knows"},
    {"other_format", "not a checksum file that this version of Berth knows"},
    {"shard_grew", "stale: 'm.safetensors' had 23 bytes then and has 24 now"},
    {"shard_missing", "stale: it does not list the shard 'm.safetensors'"},
    {"shard_negative", "'bytes' is missing or not a number"},
    {"shard_renamed", "stale: it lists 'n.safetensors'"},
    {"shard_twice", "stale: it lists 'm.safetensors'"},
    {"tensor_dtype", "stale: the model's tensor 'a' has another name, shard, byte range or dtype"},
    {"tensor_missing", "stale: it does not list the tensor 'b'"},
    {"tensor_moved", "stale: the model's tensor 'b' has another name, shard, byte range or dtype"},
    {"tensor_surplus", "stale: the model has no tensor 'c' any more"},
};

TEST(ChecksumsCorpus, EveryFileBreaksItsRule) {
  const std::filesystem::path folder =
      std::filesystem::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/checksums";
  const Checkpoint checkpoint = checksums_model();
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    ++files;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    ASSERT_TRUE(kExpected.contains(name));
    std::string error;
    try {
      parse_checksums(text, "input", checkpoint);
    } catch (const Error& thrown) {
      error = thrown.what();
    }
    if (kExpected.at(name).empty()) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_THAT(error, ::testing::StartsWith("input: " + kExpected.at(name)));
    }
  }
  EXPECT_EQ(files, kExpected.size());
}

}  // namespace
}  // namespace berth

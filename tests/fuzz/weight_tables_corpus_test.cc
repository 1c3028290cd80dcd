// Runs the seeds of the weight_tables target, and checks what comes of each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <vector>

#include "tests/fuzz/weight_tables_fuzz.h"

namespace berth {
namespace {

using ::testing::EndsWith;

const std::map<std::string, std::string> kOutcomes{
    {"gptq", ""},
    {"gptq_group_negative", "tensor 'g_idx': element 0 is -1, but there are 4 groups"},
    {"gptq_group_too_large", "tensor 'g_idx': element 0 is 33686018, but there are 4 groups"},
    {"awq", ""},
    {"fp8_blocks", ""},
    {"packed", ""},
    {"nvfp4", ""},
    {"bnb4_offset", ""},
    {"bnb4_no_offset",
     "tensor 'weight.quant_state.bitsandbytes__nf4': holds no number as nested_offset"},
    {"bnb8", ""},
    {"int8_zeros", ""},
    {"mxfp4", ""},
};

TEST(WeightTablesCorpus, EverySeedComesToWhatIsExpected) {
  std::size_t seen = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(BERTH_SOURCE_DIR "/tests/fuzz/corpus/weight_tables")) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    ASSERT_TRUE(kOutcomes.contains(name));
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(file), {}};
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    const std::string outcome = weight_tables_outcome(bytes);
    EXPECT_THAT(outcome, EndsWith(kOutcomes.at(name)));
    if (kOutcomes.at(name).empty()) {
      EXPECT_EQ(outcome, "");
    }
    ++seen;
  }
  EXPECT_EQ(seen, kOutcomes.size());
}

}  // namespace
}  // namespace berth

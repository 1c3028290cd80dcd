// The fuzz target's seeds, one file a rule, as an ordinary test: each does what its name says.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "berth/error.h"
#include "cli/options/deployment.h"

namespace berth {
namespace {

TEST(DeploymentCorpus, SeedsAreGoodOrBadAsNamed) {
  std::size_t good = 0, bad = 0;
  const std::filesystem::path folder = BERTH_SOURCE_DIR "/tests/fuzz/corpus/deployment";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    std::string error;
    try {
      parse_deployment(parse_yaml(text.str(), name), "folder");
    } catch (const Error& caught) {
      error = caught.what();
    }
    if (name.rfind("good-", 0) == 0) {
      ++good;
      EXPECT_EQ(error, "") << name;
    } else {
      ++bad;
      EXPECT_EQ(error.rfind(name + ":", 0), 0u) << name << ": " << error;
    }
  }
  EXPECT_GE(good, 7u);
  EXPECT_GE(bad, 30u);
}

}  // namespace
}  // namespace berth

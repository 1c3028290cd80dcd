// berth convert --for cpu as a process, and what the other commands make of the file.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <string>

#include "tests/cli/berth_process.h"
#include "tests/model/tiny_gguf.h"
#include "tests/program/packed_model.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

class TilesCommand : public ::testing::Test {
 protected:
  TilesCommand() { PackedModel(kPackedFormats[1], false).write(model_); }

  void convert() const {
    const Answer converted = berth({"convert", model_, out_, "--for", "cpu"});
    ASSERT_EQ(converted.exit_code, 0) << converted.talk;
    EXPECT_THAT(converted.out, HasSubstr(", of which 15 are in tiles"));
    EXPECT_THAT(converted.out, HasSubstr("file        model.gguf: "));
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_.path() / "m.gguf";
  const std::string out_ = folder_.path() / "out";
};

TEST_F(TilesCommand, ARunMapsThemAndGivesTheSameIds) {
  convert();
  const auto run = [](const std::string& model) {
    return berth({"run", model, "--prompt-ids", "1,5,9,33", "-n", "5", "--verbose"});
  };
  const Answer expected = run(model_);
  const Answer found = run(out_);
  ASSERT_EQ(found.exit_code, 0) << found.talk;
  EXPECT_EQ(found.out, expected.out);
  EXPECT_THAT(expected.talk, Not(HasSubstr("model.gguf: mapped")));
  EXPECT_THAT(found.talk, HasSubstr("model.gguf: mapped"));
}

TEST_F(TilesCommand, APlanHasTheSameBytesAndSaysWhatTheFileIs) {
  convert();
  simdjson::dom::parser parser;
  const auto bytes = [&](const std::string& model) {
    return std::uint64_t(
        parser.parse(berth({"plan", model, "--max-memory", "cpu=1GiB", "--json"}).out)
            .value()["model"]["bytes"]);
  };
  EXPECT_EQ(bytes(out_), bytes(model_));
  EXPECT_THAT(berth({"plan", out_, "--max-memory", "cpu=1GiB"}).out,
              HasSubstr("weights are in tiles"));
  const Answer exported = berth({"plan", out_, "--max-memory", "cpu=1GiB", "--llama-cpp"});
  EXPECT_EQ(exported.exit_code, 1);
  EXPECT_EQ(exported.out, "");
  EXPECT_THAT(exported.talk,
              HasSubstr("--llama-cpp: the weights are in tiles, which no program but Berth reads"));
  const Answer map = berth({"plan", out_, "--max-memory", "cpu=1GiB", "--print-device-map"});
  EXPECT_EQ(map.exit_code, 0);
  EXPECT_THAT(map.talk, HasSubstr("neither transformers nor accelerate reads"));
}

TEST_F(TilesCommand, ALoadMapsWhatAPlanSaysItMaps) {
  convert();
  const Answer loaded = berth({"load", out_, "--max-memory", "cpu=1GiB"});
  ASSERT_EQ(loaded.exit_code, 0) << loaded.talk;
  EXPECT_THAT(loaded.out, HasSubstr("model.gguf: mapped"));
}

TEST_F(TilesCommand, IsRefusedWhereThereIsNothingToTile) {
  tiny_gguf().write(model_);
  const Answer plain = berth({"convert", model_, out_, "--for", "cpu"});
  EXPECT_EQ(plain.exit_code, 1);
  EXPECT_THAT(plain.talk, HasSubstr("m.gguf: no weights to put in tiles"));
  EXPECT_FALSE(fs::exists(out_));
  const Answer gpu = berth({"convert", model_, out_, "--for", "gpu"});
  EXPECT_EQ(gpu.exit_code, 64);
  EXPECT_THAT(gpu.talk, HasSubstr("'gpu' is nothing that weights are written for (cpu is)"));
  EXPECT_EQ(berth({"convert", model_, out_, "--for", "cpu", "--dtype", "float32"}).exit_code, 64);
}

}  // namespace
}  // namespace berth::testing

// berth convert as a process: what it writes beside the weights, what it says, and what it refuses.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "berth/error.h"
#include "tests/cli/berth_process.h"
#include "tests/model/tiny_gguf.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(ConvertCommand, WritesAModelThatRunsAlike) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string out = folder.path() / "out";
  const Answer converted = berth({"convert", model, out, "--max-shard-size", "4KB", "--json"});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element report = parser.parse(converted.out).value();
  EXPECT_EQ(std::uint64_t(report["bytes_read"]), tiny_data_bytes());
  EXPECT_GT(simdjson::dom::array(report["files"]).size(), 1u);
  EXPECT_EQ(slurp(out + "/config.json"), tiny_config());
  const Answer loaded = berth({"load", out, "--max-memory", "cpu=1GiB", "--json"});
  ASSERT_EQ(loaded.exit_code, 0) << loaded.talk;
  EXPECT_EQ(std::uint64_t(parser.parse(loaded.out).value()["model"]["bytes"]), tiny_data_bytes());
}

TEST(ConvertCommand, AnotherDtypeIsInTheConfigToo) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string out = folder.path() / "out";
  const Answer converted = berth({"convert", model, out, "--dtype", "bfloat16"});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(converted.out, HasSubstr("got another dtype"));
  const Answer loaded = berth({"load", out, "--max-memory", "cpu=1GiB", "--json"});
  simdjson::dom::parser parser;
  EXPECT_EQ(std::uint64_t(parser.parse(loaded.out).value()["model"]["bytes"]),
            tiny_data_bytes() / 2);
}

TEST(ConvertCommand, WritesWhatAGgufSaysBesideItsWeights) {
  const TemporaryFolder folder;
  tiny_gguf().write(folder.path() / "m.gguf");
  const std::string out = folder.path() / "out";
  const Answer converted = berth({"convert", folder.path() / "m.gguf", out});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(slurp(out + "/config.json"), HasSubstr("LlamaForCausalLM"));
  EXPECT_THAT(slurp(out + "/tokenizer.json"), HasSubstr("<|end|>"));
  EXPECT_THAT(slurp(out + "/tokenizer_config.json"), HasSubstr(R"("eos_token": "<|end|>")"));
  EXPECT_THAT(slurp(out + "/tokenizer_config.json"), HasSubstr("{{ messages }}"));
  EXPECT_THAT(slurp(out + "/generation_config.json"), HasSubstr(R"("eos_token_id": 1)"));
}

TEST(ConvertCommand, OpensPyTorchFilesWithoutAConfig) {
  const TemporaryFolder folder;
  const std::string in = folder.path() / "a.pth";
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/ok_wrapped", in);
  const std::string out = folder.path() / "out";
  const Answer converted = berth({"convert", in, out});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(slurp(out + "/model.safetensors"), HasSubstr("\"wte\""));
  EXPECT_THAT(slurp(out + "/model.safetensors"), HasSubstr("\"head\"")) << "nothing ties the two";
}

TEST(ConvertCommand, SaysBeforehandHowMuchTensorsThatShareBytesBecome) {
  const TemporaryFolder folder;
  const std::string in = folder.path() / "a.pth";
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/ok_shared", in);
  // Also where it fails then.
  const Answer failed = berth({"convert", in, folder.path() / "no/such/folder/out"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.talk,
              HasSubstr("note: tensors share bytes, which they cannot in safetensors"));
  const Answer plain = berth({"convert", tiny_llama(folder, "m"), folder.path() / "out"});
  EXPECT_EQ(plain.exit_code, 0);
  EXPECT_EQ(plain.talk, "");
}

TEST(ConvertCommand, NamesAndClearsWhatAKilledConversionLeft) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const fs::path part = folder.path() / "out.part-abc123";
  folder.write("out.part-abc123/.berth-unfinished",
               "unfinished: the next `berth convert` to this place removes this folder and these "
               "files\nmodel.safetensors\n");
  folder.write("out.part-abc123/model.safetensors", "half");
  folder.write("out.part-xyz123/model.safetensors", "somebody's");
  const Answer converted = berth({"convert", model, folder.path() / "out"});
  EXPECT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(converted.talk, HasSubstr("out.part-abc123: removed, because"));
  EXPECT_FALSE(fs::exists(part));
  EXPECT_TRUE(fs::exists(folder.path() / "out.part-xyz123/model.safetensors"));
}

TEST(ConvertCommand, AFileSizeLimitIsAnErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const TemporaryFolder place;
  const Answer limited = berth_within(4096, {"convert", model, place.path() / "out"});
  EXPECT_EQ(limited.exit_code, 1);
  EXPECT_THAT(limited.talk, HasSubstr("File too large"));
  EXPECT_TRUE(fs::is_empty(place.path()));
  const Answer saved = berth_within(
      100, {"plan", model, "--save", place.path() / "plan.json", "--max-memory", "cpu=1GiB"});
  EXPECT_EQ(saved.exit_code, 1);
  EXPECT_TRUE(fs::is_empty(place.path()));
}

// The folder is the same model for every command, whatever else lies in it.
TEST(ConvertCommand, WritesTheModelThatAPlanIsFor) {
  const TemporaryFolder folder;
  const fs::path model = tiny_llama(folder, "m");
  fs::rename(model / "model.safetensors", model / "model-00001-of-00001.safetensors");
  std::ofstream(model / "adapter_model.safetensors", std::ios::binary)
      << safetensors(R"({"lora":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  const Answer planned = berth({"plan", model});
  EXPECT_EQ(planned.exit_code, 0) << planned.talk;
  EXPECT_THAT(planned.out, HasSubstr("is an adapter and left out"));
  const std::string out = folder.path() / "out";
  const Answer converted = berth({"convert", model, out});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(converted.out, HasSubstr("is an adapter and left out"));
  EXPECT_THAT(slurp(out + "/model.safetensors"), Not(HasSubstr("lora")));
  const Answer summed = berth({"checksum", model});
  EXPECT_THAT(slurp(model / "berth.checksums.json"), Not(HasSubstr("lora")));
  EXPECT_THAT(summed.talk, HasSubstr("is an adapter and left out"));
  EXPECT_EQ(berth({"load", model, "--verify", "--max-memory", "cpu=1GiB"}).exit_code, 0);
}

TEST(ConvertCommand, RefusesAModelThatAPlanRefuses) {
  const TemporaryFolder folder;
  const fs::path model = tiny_llama(folder, "m");
  std::ofstream(model / "model.safetensors", std::ios::binary)
      << safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  const Answer planned = berth({"plan", model});
  const Answer converted = berth({"convert", model, folder.path() / "out"});
  EXPECT_EQ(converted.exit_code, 1);
  EXPECT_EQ(converted.talk, planned.talk);
  EXPECT_FALSE(fs::exists(folder.path() / "out"));
}

TEST(ConvertCommand, WritesTheStateDictThatIsNamed) {
  const TemporaryFolder folder;
  const std::string in = folder.path() / "gan.pt";
  fs::copy_file(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/root_several", in);
  EXPECT_EQ(berth({"convert", in, folder.path() / "none"}).exit_code, 1);
  const Answer converted = berth({"convert", in + "@critic", folder.path() / "out"});
  ASSERT_EQ(converted.exit_code, 0) << converted.talk;
  EXPECT_THAT(slurp(folder.path() / "out/model.safetensors"), HasSubstr("\"a\""));
  EXPECT_EQ(berth({"checksum", in + "@critic"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(in + "@critic.checksums.json"));
}

TEST(ConvertCommand, RefusesWhatIsThereAndWhatIsNoFolder) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer over = berth({"convert", model, model});
  EXPECT_EQ(over.exit_code, 1);
  EXPECT_THAT(over.talk, HasSubstr("exists already"));
  EXPECT_EQ(berth({"convert", model, folder.path() / "x.safetensors"}).exit_code, 64);
  EXPECT_EQ(berth({"convert", model}).exit_code, 64);
  EXPECT_EQ(berth({"convert", model, folder.path() / "x", "--dtype", "int8"}).exit_code, 64);
}

}  // namespace
}  // namespace berth::testing

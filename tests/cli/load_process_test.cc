// berth load as a process, on a machine without GPUs: what it reports, follows and refuses.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <fstream>

#include "tests/cli/berth_process.h"
#include "tests/model/gguf_writer.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// GPU 0 takes some of the tiny model, the CPU the rest; the GPU is one that no machine has.
std::vector<std::string> spread(const std::string& command, const std::string& model) {
  return {command, model, "--policy", "sequential", "--max-memory", "77=4000,cpu=1GiB"};
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(LoadCommand, FollowsAPlanMadeEarlierWithItsDtype) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string saved = folder.path() / "plan.json";
  const Answer plan = berth(spread("plan", model) +
                            std::vector<std::string>{"--dtype", "float16", "--save", saved});
  ASSERT_EQ(plan.exit_code, 0) << plan.talk;
  const Answer load = berth({"load", model, "--plan", saved, "--emulate", "--json"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element report = parser.parse(load.out).value();
  EXPECT_EQ(std::uint64_t(report["model"]["bytes"]), tiny_data_bytes() / 2);
  EXPECT_GT(std::uint64_t(report["after_load"]["77"]), 0u);
  EXPECT_EQ(std::uint64_t(report["after_load"]["77"]) + std::uint64_t(report["after_load"]["cpu"]),
            tiny_data_bytes() / 2);
  EXPECT_TRUE(bool(report["measured"]["gpu"]["77"]["emulated"]));
  EXPECT_EQ(berth({"load", model, "--plan", saved}).exit_code, 1) << "without --emulate";
}

// A plan is JSON, which has no such bytes.
TEST(LoadCommand, FollowsAPlanOfAModelWhoseNameIsNotUtf8) {
  const TemporaryFolder folder;
  for (const char* name : {"\xff\xfe m", "cut short \xe4\xbd"}) {
    const std::string model = tiny_llama(folder, name);
    const std::string saved = folder.path() / "plan.json";
    ASSERT_EQ(berth({"plan", model, "--save", saved}).exit_code, 0);
    const Answer load = berth({"load", model, "--plan", saved});
    EXPECT_EQ(load.exit_code, 0) << load.talk;
  }
}

TEST(LoadCommand, LabelsEmulatedDevicesAndSaysThatNothingIsOnAGpu) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer load = berth(spread("load", model) + std::vector<std::string>{"--emulate"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  EXPECT_THAT(load.out, HasSubstr("gpu 77 (emulated)"));
  EXPECT_THAT(load.out, HasSubstr("nothing is on a GPU"));
  EXPECT_THAT(load.out + load.talk, Not(HasSubstr("\r"))) << "no progress bar into a pipe";
}

TEST(LoadCommand, RehearsesADeviceMapWithoutADescribedMachine) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string map =
      folder.write("map.json", R"({"": 77, "lm_head": 78, "model.norm": "cpu"})");
  const Answer load = berth({"load", model, "--device-map", map, "--emulate", "--json"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element after = parser.parse(load.out).value()["after_load"].value();
  for (const char* device : {"77", "78", "cpu"}) EXPECT_GT(std::uint64_t(after[device]), 0u);
  EXPECT_EQ(berth({"load", model, "--device-map", map}).exit_code, 1) << "without --emulate";
}

TEST(LoadCommand, VerifiesWhatChecksumWroteAndNamesTheDamagedTensor) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer missing = berth({"load", model, "--verify"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.talk, HasSubstr("berth checksum"));
  const Answer written = berth({"checksum", model});
  ASSERT_EQ(written.exit_code, 0) << written.talk;
  EXPECT_THAT(written.out, HasSubstr("berth.checksums.json: "));
  for (const char* memory : {"mmap", "private"}) {
    const Answer load = berth({"load", model, "--verify", "--cpu-memory", memory});
    ASSERT_EQ(load.exit_code, 0) << load.talk;
    EXPECT_THAT(load.out, HasSubstr("verified "));
  }
  const std::string shard = model + "/model.safetensors";
  std::fstream(shard, std::ios::binary | std::ios::in | std::ios::out)
      .seekp(-1, std::ios::end)
      .put('x');
  for (const char* memory : {"mmap", "private"}) {
    const Answer load = berth({"load", model, "--verify", "--cpu-memory", memory});
    EXPECT_EQ(load.exit_code, 1);
    EXPECT_EQ(load.out, "");
    EXPECT_THAT(load.talk, HasSubstr("model.safetensors: tensor '"));
    EXPECT_THAT(load.talk, HasSubstr("the checksum differs"));
  }
  EXPECT_EQ(berth({"load", model}).exit_code, 0) << "without --verify";
}

// A llama of one tiny layer as GGUF, in one file or in two splits, which are named as llama.cpp
// names them. Its queries and keys are in another order than in memory.
void write_tiny_gguf(const TemporaryFolder& folder, const std::string& stem, std::uint32_t parts) {
  GgufWriter files[2];
  files[0].text("general.architecture", "llama");
  for (const auto& [key, value] :
       {std::pair("embedding_length", 32u), std::pair("block_count", 1u),
        std::pair("context_length", 64u), std::pair("feed_forward_length", 32u),
        std::pair("attention.head_count", 2u), std::pair("attention.head_count_kv", 2u)}) {
    files[0].u32(std::string("llama.") + key, value);
  }
  if (parts == 2) {
    for (std::uint32_t i = 0; i < parts; ++i) {
      files[i].u32("split.count", parts);
      files[i].u32("split.no", i);
    }
  }
  const std::vector<float> matrix(32 * 32, 0.5f);
  const std::vector<float> norm(32, 1.0f);
  for (const char* name : {"token_embd", "output", "blk.0.attn_q", "blk.0.attn_k"}) {
    files[0].floats(name + std::string(".weight"), {32, 32}, matrix);
  }
  GgufWriter& last = files[parts - 1];
  for (const char* name : {"attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    last.floats("blk.0." + std::string(name) + ".weight", {32, 32}, matrix);
  }
  for (const char* name : {"blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"}) {
    last.floats(name + std::string(".weight"), {32}, norm);
  }
  if (parts == 1) return files[0].write(folder.path() / (stem + ".gguf"));
  files[0].write(folder.path() / (stem + "-00001-of-00002.gguf"));
  files[1].write(folder.path() / (stem + "-00002-of-00002.gguf"));
}

// Flips the lowest bit of a byte, which is counted from the end of the file.
void flip_bit(const std::filesystem::path& path, int from_end) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const int byte = file.seekg(-from_end, std::ios::end).get();
  file.seekp(-from_end, std::ios::end).put(static_cast<char>(byte ^ 1));
}

// Loads that map the weights, copy them and convert them.
std::vector<Answer> load_verified(const std::string& model) {
  std::vector<Answer> answers;
  for (const std::vector<std::string>& how : {std::vector<std::string>{"--cpu-memory", "mmap"},
                                              {"--cpu-memory", "private"},
                                              {"--cpu-memory", "private", "--dtype", "bfloat16"}}) {
    answers.push_back(berth(
        std::vector<std::string>{"load", model, "--verify", "--max-memory", "cpu=1GiB"} + how));
  }
  return answers;
}

void expect_verified(const std::string& model) {
  for (const Answer& load : load_verified(model)) {
    EXPECT_EQ(load.exit_code, 0) << load.talk;
    EXPECT_THAT(load.out, HasSubstr("verified    12 tensors"));
  }
}

void expect_damaged(const std::string& model) {
  for (const Answer& load : load_verified(model)) {
    EXPECT_EQ(load.exit_code, 1) << load.out;
    EXPECT_THAT(load.talk, HasSubstr("the checksum differs"));
  }
}

TEST(LoadCommand, VerifiesAGgufFileNamedByItselfOrByItsFolder) {
  const TemporaryFolder folder;
  write_tiny_gguf(folder, "tiny", 1);
  const std::string file = folder.path() / "tiny.gguf";
  for (const std::string& model : {file, folder.path().string()}) {
    const Answer written = berth({"checksum", model});
    ASSERT_EQ(written.exit_code, 0) << written.talk;
    EXPECT_THAT(written.out, HasSubstr("tiny.gguf.checksums.json: 12 tensors"));
    expect_verified(file);
    expect_verified(folder.path());
    std::filesystem::remove(file + ".checksums.json");
  }
  ASSERT_EQ(berth({"checksum", file}).exit_code, 0);
  flip_bit(file, 1);
  expect_damaged(file);
}

TEST(LoadCommand, VerifiesASplitGgufNamedByAnyPart) {
  const TemporaryFolder folder;
  write_tiny_gguf(folder, "tiny", 2);
  const std::string first = folder.path() / "tiny-00001-of-00002.gguf";
  const std::string second = folder.path() / "tiny-00002-of-00002.gguf";
  const Answer written = berth({"checksum", second});
  ASSERT_EQ(written.exit_code, 0) << written.talk;
  EXPECT_THAT(written.out, HasSubstr("tiny-00001-of-00002.gguf.checksums.json: 12 tensors"));
  for (const std::string& model : {first, second, folder.path().string()}) {
    expect_verified(model);
  }
  for (const std::string& part : {first, second}) {
    flip_bit(part, 1);
    expect_damaged(first);
    flip_bit(part, 1);
  }
}

TEST(LoadCommand, MeasuresThePlainWayInAProcessOfItsOwn) {
  const TemporaryFolder folder;
  // Much more than the heap may have left over, and enough to take longer than the time between two
  // samples of the peak.
  constexpr std::size_t kBytes = 64 << 20;
  const std::string header =
      R"({"layer.weight":{"dtype":"F32","shape":[4096,4096],"data_offsets":[0,67108864]}})";
  const std::string model = folder.write("m.safetensors", safetensors(header, kBytes));
  const Answer load = berth({"load", model, "--max-memory", "cpu=1GiB", "--cpu-memory", "private",
                             "--compare-naive", "--json"});
  ASSERT_EQ(load.exit_code, 0) << load.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element naive = parser.parse(load.out).value()["naive"];
  // Twice the weights; a little less, because the heap had some free memory.
  EXPECT_GE(std::uint64_t(naive["host_peak_bytes"]), 2 * kBytes - kBytes / 8);
  EXPECT_GT(std::uint64_t(naive["frugal"]["host_peak_bytes"]), 0u);
  EXPECT_GT(double(naive["seconds"]), 0);
}

TEST(LoadCommand, LoadsNothingThatDoesNotFitAndExitsTwo) {
  const TemporaryFolder folder;
  const Answer load =
      berth({"load", tiny_llama(folder, "m"), "--max-memory", "cpu=1KiB", "--exclude", "disk"});
  EXPECT_EQ(load.exit_code, 2) << load.talk;
  EXPECT_EQ(load.out, "");
  EXPECT_THAT(load.talk, StartsWith("does not fit: short by"));
}

}  // namespace
}  // namespace berth::testing

// berth calibrate as a process, and plans that use what it wrote.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <cstdlib>

#include "berth/machine.h"
#include "tests/cli/berth_process.h"
#include "tests/model/tiny_gguf.h"

namespace berth::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Sets BERTH_MACHINE_FILE, which the processes that a test starts inherit, while it lives.
class MachineFileVariable {
 public:
  explicit MachineFileVariable(const std::string& value) {
    ::setenv("BERTH_MACHINE_FILE", value.c_str(), 1);
  }
  ~MachineFileVariable() { ::unsetenv("BERTH_MACHINE_FILE"); }
};

double seconds_per_token(const std::string& json) {
  simdjson::dom::parser parser;
  return parser.parse(json)["estimate"]["seconds_per_token"].get_double().value();
}

TEST(CalibrateCommand, WritesAMachineFileThatPlanUses) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "machine.yaml";
  const Answer answer =
      berth({"calibrate", "--seconds", "0.5", "--disk", folder.path(), "--out", out, "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.talk, HasSubstr("measuring host RAM"));
  simdjson::dom::parser parser;
  const simdjson::dom::element root = parser.parse(answer.out).value();
  EXPECT_EQ(std::string_view(root["file"]), out);
  EXPECT_EQ(std::string_view(root["figures"].at(0)["what"]), "RAM read");
  EXPECT_GT(double(root["figures"].at(0)["value"]), 0);

  const Machine machine = read_machine_file(out);
  ASSERT_TRUE(machine.calibrated);
  EXPECT_GT(machine.find("cpu")->memory_bandwidth, 0);
  EXPECT_GT(machine.find("disk")->memory_bandwidth, 0);

  const std::string model = tiny_llama(folder, "m");
  const MachineFileVariable variable(out);
  const Answer plan = berth({"plan", model});
  EXPECT_EQ(plan.exit_code, 0) << plan.talk;
  EXPECT_THAT(plan.out, HasSubstr("speeds measured by berth calibrate on 20"));
  EXPECT_THAT(berth({"plan", model, "--max-memory", "cpu=1GiB"}).out, Not(HasSubstr("calibrate")))
      << "budgets are no machine";
}

TEST(CalibrateCommand, ChangesTheEstimateByTheFigures) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const auto estimate = [&](const std::string& rate) {
    const MachineFileVariable variable(folder.write(
        rate + ".yaml", "devices: [{name: cpu, capacity: 1GiB, memory_bandwidth: " + rate +
                            "MB/s, flops: 1PFLOP/s}]\n"));
    const Answer answer = berth({"plan", model, "--json", "--exclude", "disk"});
    EXPECT_EQ(answer.exit_code, 0) << answer.talk;
    return seconds_per_token(answer.out);
  };
  EXPECT_NEAR(estimate("1") / estimate("8"), 8, 0.1);
}

TEST(CalibrateCommand, SaysWhereSpeedsAreDefaultsAndDoesNotDieOfABrokenFile) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  EXPECT_THAT(berth({"plan", model}).out, HasSubstr("default speeds: run `berth calibrate`"));
  const MachineFileVariable variable(folder.write("broken.yaml", "devices: [\n"));
  const Answer named = berth({"plan", model});
  EXPECT_EQ(named.exit_code, 1) << "it was asked for";
  EXPECT_THAT(named.talk, HasSubstr("broken.yaml"));
  EXPECT_EQ(berth({"plan", model, "--machine", machine_file(folder, "1GiB", "1GiB")}).exit_code, 0)
      << "--machine is another machine";
}

TEST(CalibrateCommand, RefusesBeforeItMeasures) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "m.yaml";
  const auto refused = [&](const std::vector<std::string>& arguments, int code,
                           const std::string& words) {
    std::vector<std::string> all{"calibrate", "--seconds", "0.5"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Answer answer = berth(all);
    EXPECT_EQ(answer.exit_code, code) << words;
    EXPECT_EQ(answer.out, "");
    EXPECT_THAT(answer.talk, AllOf(HasSubstr(words), Not(HasSubstr("measuring"))));
  };
  refused({"--out", out, "--disk", folder.path() / "absent"}, 1, "no such folder");
  refused({"--out", folder.path() / "absent/m.yaml"}, 1, "cannot be written");
  refused({"--out", folder.path()}, 1, "is a folder");
  refused({"--out", out, folder.path()}, 1, "no .safetensors file");
  refused({"--out", out, folder.path() / "no-model"}, 1, "no such file or folder; name a folder");
  refused({"--out", out, folder.write("a.onnx", "")}, 1, "neither a folder nor a .safetensors");
  refused({"--out", out, folder.write("a.gguf", "GGUF")}, 1, "too few for a GGUF header");
  refused({"--out", out, "model", "--disk", "."}, 64, "--disk");
  refused({"--out", out, "--seconds", "soon"}, 64, "--seconds");
  refused({"--fast"}, 64, "--fast");
  EXPECT_FALSE(std::filesystem::exists(out));
}

// Each model here is too small to measure the disk with. The note that says so also shows that its
// shards were found.
TEST(CalibrateCommand, ReadsAModelOfAnyFormat) {
  const TemporaryFolder folder;
  const auto folder_of = [&](const std::string& name) {
    std::filesystem::create_directory(folder.path() / name);
    return folder.path() / name;
  };
  const std::filesystem::path torch =
      std::filesystem::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus/torch/ok_wrapped";
  std::filesystem::copy_file(torch, folder_of("torch") / "pytorch_model.bin");
  std::filesystem::copy_file(torch, folder.path() / "a.pth");
  tiny_gguf().write(folder_of("gguf") / "m.gguf");
  for (const std::filesystem::path& model :
       {tiny_llama(folder, "m"), folder.path() / "torch", folder.path() / "a.pth",
        folder.path() / "gguf", folder.path() / "gguf/m.gguf"}) {
    const Answer answer =
        berth({"calibrate", model, "--seconds", "0.1", "--out", folder.path() / "m.yaml"});
    EXPECT_EQ(answer.exit_code, 0) << answer.talk;
    EXPECT_THAT(answer.talk, HasSubstr("the model's files were not read (")) << model;
  }
}

TEST(CalibrateCommand, GoesOnWhereTheDiskCannotBeMeasured) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "m.yaml";
  const Answer answer = berth({"calibrate", "--seconds", "0.5", "--disk", "/proc", "--out", out});
  EXPECT_EQ(answer.exit_code, 0);
  EXPECT_THAT(answer.talk, HasSubstr("note: the disk of /proc: not measured: "));
  EXPECT_GT(read_machine_file(out).find("cpu")->memory_bandwidth, 0);
}

}  // namespace
}  // namespace berth::testing

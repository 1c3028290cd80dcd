// berth run as a process: what the plan promises, the run keeps, or it is refused before it loads.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <map>
#include <string>
#include <vector>

#include "tests/cli/berth_process.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RunCommand : public ::testing::Test {
 protected:
  Answer run(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"run", model_, "--prompt-ids", "3,17,5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return berth(arguments);
  }

  TemporaryFolder folder_;
  std::string model_ = tiny_llama(folder_, "m");
};

TEST_F(RunCommand, EndsWithinItsContextOrIsRefused) {
  EXPECT_EQ(run({"--context", "8", "-n", "6"}).exit_code, 0);
  const Answer refused = run({"--context", "8", "-n", "7"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.talk, HasSubstr("need 9 positions of KV cache, and the plan has 8: plan with "
                                      "--context 9, or ask for fewer tokens with -n"));
  EXPECT_THAT(refused.talk, Not(HasSubstr("loaded in")));
  EXPECT_EQ(refused.out, "");
}

TEST_F(RunCommand, ComputesSeveralSequencesAtOnce) {
  const std::string alone = run({"-n", "2"}).out;
  const std::string other = berth({"run", model_, "--prompt-ids", "9", "-n", "2"}).out;
  const Answer both = run({"--prompt-ids", "9", "-n", "2"});
  ASSERT_EQ(both.exit_code, 0) << both.talk;
  EXPECT_EQ(both.out, "[1] " + alone + "[2] " + other);
  EXPECT_THAT(both.talk, HasSubstr("new         4 tokens of 2 sequences"));
  const Answer again = run({"--batch", "2", "-n", "2"});
  EXPECT_EQ(again.out, "[1] " + alone + "[2] " + alone);
  EXPECT_THAT(run({"--prompt-ids", "9", "--json", "-n", "2"}).out,
              HasSubstr("{\n  \"sequences\": [\n    {\n      \"prompt_ids\": ["));
  const Answer refused = run({"--prompt-ids", "9", "--batch", "1", "-n", "2"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.talk, HasSubstr("there are 2 prompts: plan with --batch 2"));
  EXPECT_THAT(refused.talk, Not(HasSubstr("loaded in")));
}

TEST_F(RunCommand, KeepsToAPlanMadeEarlier) {
  const std::string saved = folder_.path() / "plan.json";
  const auto plan = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"plan", model_, "--save", saved};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ASSERT_EQ(berth(arguments).exit_code, 0);
  };
  plan({"--context", "8"});
  EXPECT_EQ(run({"--plan", saved, "-n", "6"}).exit_code, 0);
  EXPECT_THAT(run({"--plan", saved, "-n", "7"}).talk, HasSubstr("the plan has 8"));
  plan({"--batch", "3"});
  EXPECT_THAT(run({"--plan", saved, "-n", "2"}).talk, HasSubstr("tokens of 3 sequences"));
  plan({"--kv-dtype", "float8_e5m2"});
  EXPECT_EQ(run({"--plan", saved, "-n", "2"}).exit_code, 0);
  const Answer refused = run({"--plan", saved, "-n", "2", "--kernels", "reference"});
  EXPECT_THAT(refused.talk, HasSubstr("KV cache in float8_e5m2"));
}

TEST_F(RunCommand, SaysWhatWasPlannedBesideWhatWasMeasured) {
  const Answer plain = run({"-n", "3"});
  ASSERT_EQ(plain.exit_code, 0) << plain.talk;
  for (const char* words : {"PLANNED", "MEASURED", "first token", "share of the limit",
                            "uncalibrated: what is planned rests on default speeds"})
    EXPECT_THAT(plain.talk, HasSubstr(words));
  const Answer json = run({"-n", "3", "--json"});
  simdjson::dom::parser parser;
  const simdjson::dom::element root = parser.parse(json.out).value();
  EXPECT_EQ(root["new_ids"].get_array().size(), 3u);
  EXPECT_FALSE(bool(root["calibrated"]));
  for (const char* key : {"first_token_seconds", "tokens_per_second", "share_of_limit"}) {
    EXPECT_GT(double(root[key]["planned"]), 0) << key;
    EXPECT_GT(double(root[key]["measured"]), 0) << key;
  }
  EXPECT_GT(double(root["bytes_per_token"]["planned"]), 0);
  // A plan made earlier is compared with what this machine does.
  const std::string saved = folder_.path() / "plan.json";
  ASSERT_EQ(berth({"plan", model_, "--save", saved}).exit_code, 0);
  const Answer earlier = run({"-n", "3", "--json", "--plan", saved});
  ASSERT_EQ(earlier.exit_code, 0) << earlier.talk;
  EXPECT_GT(double(parser.parse(earlier.out).value()["tokens_per_second"]["planned"]), 0);
  // Emulated GPUs are none.
  EXPECT_THAT(
      run({"-n", "3", "--device-map", folder_.write("map.json", "{\"\": 0}"), "--emulate"}).talk,
      HasSubstr("the plan's GPUs were emulated"));
}

TEST_F(RunCommand, WritesAProfileOfItsSteps) {
  for (const char* kernels : {"own", "reference"}) {
    const std::string file = folder_.path() / (std::string(kernels) + ".trace.json");
    const Answer answer = run({"-n", "3", "--kernels", kernels, "--profile", file});
    ASSERT_EQ(answer.exit_code, 0) << answer.talk;
    simdjson::dom::parser parser;
    const simdjson::dom::element root = parser.load(file).value();
    std::map<std::string, int> names;  // of slices, by process
    for (const simdjson::dom::element event : root["traceEvents"].get_array()) {
      if (std::string_view(event["ph"]) != "X") continue;
      const std::string process = std::to_string(std::int64_t(event["pid"]));
      ++names[process + " " + std::string(std::string_view(event["name"]))];
      EXPECT_GE(double(event["dur"]), 0);
    }
    EXPECT_EQ(names["1 prompt"], 1);
    EXPECT_EQ(names["1 token"], 2);
    EXPECT_EQ(names["1 layer 1"], 3) << "in every pass";
    EXPECT_EQ(names["1 attention"], 3 * 2);
    EXPECT_EQ(names["2 prompt"], 1);
    EXPECT_EQ(names["2 token"], 2);
    EXPECT_EQ(names["2 model.layers.1"], 3);
  }
  const Answer refused = run({"-n", "3", "--profile", folder_.path() / "none" / "trace.json"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.talk, HasSubstr("trace.json"));
  EXPECT_THAT(refused.talk, Not(HasSubstr("loaded in"))) << "before the weights are loaded";
}

TEST_F(RunCommand, TakesTheContextThatItNeedsWhereNoneIsSaid) {
  std::string config = tiny_config();
  const std::string positions = "\"max_position_embeddings\": 64";
  config.replace(config.find(positions), positions.size(), "\"max_position_embeddings\": 8192");
  folder_.write("m/config.json", config);
  std::string prompt = "3";
  for (int i = 1; i < 4200; ++i) prompt += ",3";
  const Answer answer = berth({"run", model_, "--prompt-ids", prompt, "-n", "1"});
  EXPECT_EQ(answer.exit_code, 0) << answer.talk;
  // So does the space for the activations of the prompt.
  const std::string machine = machine_file(folder_, "1MB", "12MB");
  EXPECT_EQ(run({"--machine", machine, "-n", "1"}).exit_code, 0);
  EXPECT_EQ(
      berth({"run", model_, "--prompt-ids", prompt, "-n", "1", "--machine", machine}).exit_code, 2);
}

}  // namespace
}  // namespace berth::testing

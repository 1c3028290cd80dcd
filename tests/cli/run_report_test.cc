// What a run says of itself, and its profile.
#include "cli/report/run_report.h"

#include <gmock/gmock.h>
#include <simdjson.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "cli/report/profile.h"
#include "tests/cli/made_plan.h"

namespace berth::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

RunReport made_report() {
  RunReport report;
  report.sequences = {{{3, 17, 5, 80}, {1, 2, 3, 4, 5}, "a text"}};
  report.prefill_seconds = 0.25;
  report.decode_seconds = 0.5;  // four passes
  report.kernels = "AVX2";
  return report;
}

RunForecast made_forecast() {
  RunForecast made;
  made.calibrated = true;
  made.forecast.emplace();
  made.forecast->estimate.prefill_seconds = 0.2;
  made.forecast->estimate.seconds_per_token = 0.1;
  made.forecast->bytes_per_step = 3e9;
  made.forecast->limit_seconds_per_step = 0.08;
  return made;
}

TEST(RunReport, ShowsPlannedBesideMeasured) {
  EXPECT_EQ(run_report(made_plan().plan, made_report(), made_forecast()),
            "prompt      4 tokens in 0.250 s (16.0 tokens/s)\n"
            "new         5 tokens (8.0 tokens/s)\n"
            "kernels     AVX2\n"
            "hops        0 between devices, each forward pass\n"
            "                     PLANNED  MEASURED\n"
            "first token         200.0 ms  250.0 ms\n"
            "tokens/s                10.0       8.0\n"
            "bytes a token       2.79 GiB         -\n"
            "share of the limit      80 %      64 %\n"
            "limit       12.5 tokens/s, if nothing but memory took time\n"
            "weights     73 % gpu 0, 27 % cpu\n");
}

TEST(RunReport, SaysThatNothingWasCalibratedAndHowTo) {
  RunForecast forecast = made_forecast();
  EXPECT_THAT(run_report(made_plan().plan, made_report(), forecast), Not(HasSubstr("note")));
  forecast.calibrated = false;
  EXPECT_THAT(run_report(made_plan().plan, made_report(), forecast),
              HasSubstr("note        uncalibrated: what is planned rests on default speeds, not on "
                        "those of the kernels here;\n            run `berth calibrate` to measure "
                        "them\n"));
}

TEST(RunReport, SaysWhyThereIsNothingToCompareWith) {
  RunForecast forecast;
  forecast.why_not = "the plan's GPUs were emulated in host memory";
  RunReport report = made_report();
  report.sequences[0].new_ids = {1};
  const std::string text = run_report(made_plan().plan, report, forecast);
  EXPECT_THAT(text, HasSubstr("first token               -  250.0 ms\n"
                              "tokens/s                  -         -\n"));
  EXPECT_THAT(text, HasSubstr("nothing is planned to compare with: the plan's GPUs were emulated"));
  EXPECT_THAT(text, Not(HasSubstr("\nlimit")));
}

TEST(RunJson, HasIdsTextAndBothFigures) {
  simdjson::dom::parser parser;
  const std::string json = run_json(made_report(), made_forecast());
  const simdjson::dom::element root = parser.parse(json).value();
  EXPECT_EQ(root["prompt_ids"].get_array().size(), 4u);
  EXPECT_EQ(root["new_ids"].get_array().size(), 5u);
  EXPECT_EQ(std::string_view(root["text"]), "a text");
  EXPECT_EQ(std::string_view(root["kernels"]), "AVX2");
  EXPECT_TRUE(bool(root["calibrated"]));
  for (const auto& [key, planned, measured] :
       {std::tuple("first_token_seconds", 0.2, 0.25), std::tuple("tokens_per_second", 10.0, 8.0),
        std::tuple("share_of_limit", 0.8, 0.64)}) {
    EXPECT_DOUBLE_EQ(double(root[key]["planned"]), planned) << key;
    EXPECT_DOUBLE_EQ(double(root[key]["measured"]), measured) << key;
  }
  EXPECT_EQ(double(root["bytes_per_token"]["planned"]), 3e9);
  EXPECT_TRUE(root["bytes_per_token"]["measured"].is_null());
  const std::string bare = run_json(made_report(), {});
  EXPECT_TRUE(parser.parse(bare).value()["share_of_limit"]["measured"].is_null());
}

TEST(RunReport, CountsTheTokensOfAllSequences) {
  RunReport report = made_report();
  report.sequences.push_back({{1, 2}, {7, 8, 9}, ""});
  EXPECT_EQ(decode_steps(report), 4u) << "the longer one";
  const std::string text = run_report(made_plan().plan, report, made_forecast());
  EXPECT_THAT(text, HasSubstr("prompt      6 tokens of 2 sequences in 0.250 s (24.0 tokens/s)\n"
                              "new         8 tokens of 2 sequences (12.0 tokens/s)\n"));
  // Steps are planned at 10 a second, and memory allows 12.5.
  EXPECT_THAT(text, HasSubstr("tokens/s                20.0      12.0\n"
                              "bytes a token       1.40 GiB         -\n"
                              "share of the limit      80 %      48 %\n"
                              "limit       25.0 tokens/s,"));
  simdjson::dom::parser parser;
  const std::string json = run_json(report, made_forecast());
  const simdjson::dom::element root = parser.parse(json).value();
  EXPECT_EQ(root["sequences"].get_array().size(), 2u);
  EXPECT_EQ(root["sequences"].at(1)["new_ids"].get_array().size(), 3u);
  EXPECT_EQ(double(root["bytes_per_token"]["planned"]), 1.5e9);
}

// A prompt of two positions and a token, over two layers on two devices.
StepLog made_log() {
  StepLog log;
  log.steps = {{"embedding", -1, 0},
               {"norm", 0, 0},
               {"q_proj, k_proj", 0, 0},
               {"norm", 4, 1},
               {"lm_head", -1, 0}};
  log.passes = {{2, 0, 0.010}, {1, 0.011, 0.020}};
  log.prompt_passes = 1;
  log.events = {{0, 0.001, 0.002}, {1, 0.002, 0.003}, {2, 0.003, 0.005},
                {3, 0.005, 0.006}, {4, 0.006, 0.007}, {0, 0.011, 0.0125}};
  log.forgotten = 7;
  return log;
}

using Slice = std::tuple<std::string, double, double>;  // name, begin and length in microseconds

// The slices of every row, by process and row, in the order of the file.
std::map<std::pair<std::string, std::string>, std::vector<Slice>> rows_of(const std::string& json) {
  simdjson::dom::parser parser;
  const simdjson::dom::element root = parser.parse(json).value();
  std::map<std::int64_t, std::string> processes;
  std::map<std::pair<std::int64_t, std::int64_t>, std::string> names;
  std::map<std::pair<std::string, std::string>, std::vector<Slice>> rows;
  for (const simdjson::dom::element event : root["traceEvents"].get_array()) {
    const std::int64_t process = event["pid"];
    const std::int64_t row = event["tid"];
    const std::string name{std::string_view(event["name"])};
    if (std::string_view(event["ph"]) == "M") {
      const std::string value{std::string_view(event["args"]["name"])};
      if (name == "process_name") processes[process] = value;
      if (name == "thread_name") names[{process, row}] = value;
      continue;
    }
    EXPECT_EQ(std::string_view(event["ph"]), "X");
    rows[{processes.at(process), names.at({process, row})}].emplace_back(name, double(event["ts"]),
                                                                         double(event["dur"]));
  }
  return rows;
}

TEST(Profile, ShowsStepsInsideTheirLayersByDevice) {
  const std::string json = profile_json(made_plan(), std::nullopt, made_log(), 1);
  auto rows = rows_of(json);
  EXPECT_EQ(rows.size(), 3u) << "nothing is planned";
  EXPECT_THAT((rows[{"measured", "passes"}]),
              ElementsAre(Slice("prompt", 0, 10000), Slice("token", 11000, 9000)));
  EXPECT_THAT((rows[{"measured", "gpu 0"}]),
              ElementsAre(Slice("embedding", 1000, 1000), Slice("layer 0", 2000, 3000),
                          Slice("norm", 2000, 1000), Slice("q_proj, k_proj", 3000, 2000),
                          Slice("lm_head", 6000, 1000), Slice("embedding", 11000, 1500)));
  EXPECT_THAT((rows[{"measured", "cpu"}]),
              ElementsAre(Slice("layer 4", 5000, 1000), Slice("norm", 5000, 1000)));
  EXPECT_THAT(json, HasSubstr("\"steps_left_out\":7"));
}

TEST(Profile, PutsThePlannedPassesOneAfterAnother) {
  const Planned planned = made_plan();
  Forecast forecast;
  const auto& placement = planned.plan.placement;
  forecast.units = {{placement[1].module, 0, 0.004, 0.001}, {placement[5].module, 1, 0.006, 0.002}};
  auto rows = rows_of(profile_json(planned, forecast, made_log(), 1));
  EXPECT_THAT((rows[{"planned", "passes"}]),
              ElementsAre(Slice("prompt", 0, 10000), Slice("token", 10000, 3000)));
  EXPECT_THAT((rows[{"planned", "gpu 0"}]),
              ElementsAre(Slice("model.layers.0", 0, 4000), Slice("model.layers.0", 10000, 1000)));
  EXPECT_THAT((rows[{"planned", "cpu"}]), ElementsAre(Slice("model.layers.4", 4000, 6000),
                                                      Slice("model.layers.4", 11000, 2000)));
}

}  // namespace
}  // namespace berth::testing

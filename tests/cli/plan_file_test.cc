#include "cli/report/plan_file.h"

#include <gmock/gmock.h>

#include "berth/error.h"
#include "cli/report/plan_json.h"
#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string error_of(const std::string& json) {
  try {
    adopt_plan(parse_plan_file(json, "plan.json"), testing::made_model().tree, {});
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(PlanFile, RefusesAPlanWithoutItsStages) {
  EXPECT_THAT(error_of(replaced(plan_json(testing::made_plan()), "\"stages\"", "\"steps\"")),
              HasSubstr("estimate.stages is missing"));
}

TEST(PlanFile, RefusesStagesOfNoDevice) {
  Planned planned = testing::made_plan();
  planned.plan.estimate.stages = {{1, 0.2, 0.04, "FLOP/s", "memory bandwidth"}};
  EXPECT_THAT(
      error_of(replaced(plan_json(planned), "\"stages\": [\n      {\n        \"device\": \"cpu\"",
                        "\"stages\": [\n      {\n        \"device\": \"7\"")),
      HasSubstr("estimate.stages[0]"));
}

TEST(PlanFile, GivesBackThePlanThatWasWritten) {
  Planned planned = testing::made_plan();
  planned.plan.estimate.stages = {{1, 0.2, 0.04, "FLOP/s", "memory bandwidth"}};
  planned.plan.estimate.hops_seconds_per_token = 0.01;
  planned.plan.streamer = 0;
  planned.plan.stream_buffer_bytes = 77;
  const PlanFile file = parse_plan_file(plan_json(planned), "plan.json");
  const Plan plan = adopt_plan(file, planned.model.tree, {});
  ASSERT_EQ(plan.estimate.stages.size(), 1u);
  EXPECT_EQ(plan.estimate.stages[0].device, 1u);
  EXPECT_EQ(plan.estimate.stages[0].seconds_per_token, 0.04);
  EXPECT_EQ(plan.estimate.stages[0].prefill_limit, "FLOP/s");
  EXPECT_EQ(plan.estimate.hops_seconds_per_token, 0.01);
  EXPECT_EQ(plan.streamer, 0u);
  EXPECT_EQ(plan.stream_buffer_bytes, 77u);
  EXPECT_EQ(plan.tensor_device, planned.plan.tensor_device);
  ASSERT_EQ(plan.devices.size(), planned.plan.devices.size());
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    EXPECT_EQ(plan.devices[i].name, planned.plan.devices[i].name);
    EXPECT_EQ(plan.devices[i].weights, planned.plan.devices[i].weights);
    EXPECT_EQ(plan.devices[i].kv_cache, planned.plan.devices[i].kv_cache);
    EXPECT_EQ(plan.devices[i].free, planned.plan.devices[i].free);
  }
  EXPECT_EQ(plan.policy, Policy::kAuto);
  EXPECT_EQ(plan.staging, planned.plan.staging);
  EXPECT_EQ(plan.workload.context, 4096u);
  EXPECT_TRUE(plan.fits());
}

TEST(PlanFile, RefusesAPlanForAnotherModel) {
  const std::string json = plan_json(testing::made_plan());
  EXPECT_THAT(error_of(replaced(json, "\"name\": \"made\"", "\"name\": \"other\"")),
              HasSubstr("a plan for another model: the name was other, here it is made"));
  EXPECT_THAT(error_of(replaced(json, "\"parameters\": 8053063680", "\"parameters\": 8")),
              HasSubstr("another model: the number of parameters"));
  EXPECT_THAT(error_of(replaced(json, "\"tensors\": 9", "\"tensors\": 8")),
              HasSubstr("another model: the number of tensors"));
  EXPECT_THAT(error_of(replaced(json, "\"bytes\": 16106127360", "\"bytes\": 16106127361")),
              HasSubstr("another model: the size in bytes"));
}

TEST(PlanFile, RefusesALedgerThatItsDeviceMapDoesNotGive) {
  const std::string json = plan_json(testing::made_plan());
  EXPECT_THAT(error_of(replaced(json, "\"model.layers.4\": \"cpu\"", "\"model.layers.4\": 0")),
              HasSubstr("devices[0].weights"));
}

TEST(PlanFile, RefusesAnotherVersionByName) {
  const std::string json = plan_json(testing::made_plan());
  EXPECT_EQ(json.find("{\n  \"plan_version\": 1,\n"), 0u) << json;
  EXPECT_EQ(
      error_of(replaced(json, "\"plan_version\": 1,", "\"plan_version\": 2,")),
      "plan.json: was saved as plan version 2; this Berth reads version 1: save it again with "
      "`berth plan --save`");
  EXPECT_EQ(error_of(replaced(json, "\"plan_version\": 1,", "")),
            "plan.json: has no plan_version: it was saved by a Berth from before plans had "
            "versions, or is not a plan: save it again with `berth plan --save`");
  EXPECT_THAT(error_of(replaced(json, "\"plan_version\": 1,", "\"plan_version\": \"1\",")),
              HasSubstr("plan_version is missing or not a whole number"));
}

TEST(PlanFile, NamesTheMemberThatIsMissingOrWrong) {
  const std::string json = plan_json(testing::made_plan());
  EXPECT_THAT(error_of("{"), HasSubstr("plan.json: not valid JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("not an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("plan.json: has no plan_version"));
  EXPECT_THAT(error_of("{\"plan_version\": 1}"), HasSubstr("plan.json: model is missing"));
  EXPECT_THAT(error_of(replaced(json, "\"capacity\"", "\"cap\"")),
              HasSubstr("devices[0].capacity is missing"));
  EXPECT_THAT(error_of(replaced(json, "\"kind\": \"cuda\"", "\"kind\": \"tpu\"")),
              HasSubstr("devices[0]"));
  EXPECT_THAT(error_of(replaced(json, "\"staging\": 134217728", "\"staging\": \"much\"")),
              HasSubstr("request.staging"));
}

}  // namespace
}  // namespace berth

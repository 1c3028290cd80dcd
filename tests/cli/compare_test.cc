#include "cli/report/compare.h"

#include <gmock/gmock.h>

#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

// A plan of two GPUs and the CPU that takes `token` seconds and leaves `spilled` GiB on the CPU.
ComparedPlan row(const std::string& name, double prefill, double token, std::uint64_t spilled) {
  Plan plan = testing::made_plan().plan;
  plan.devices[0].weights = (15 - spilled) * testing::kGiB;
  plan.devices[1].weights = spilled * testing::kGiB;
  plan.workload.prompt_tokens = 512;
  plan.workload.new_tokens = 128;
  plan.estimate.prefill_seconds = prefill;
  plan.estimate.seconds_per_token = token;
  plan.estimate.score_seconds = prefill + 128 * token;
  return {name, plan, ""};
}

TEST(Compare, NamesTheWinnerAndItsLead) {
  EXPECT_EQ(winner_line({row("auto", 1, 0.1, 0), row("balanced", 1, 0.31, 6)}),
            "auto: 3.10x sooner per token than balanced, which leaves 6.00 GiB on the cpu\n");
  EXPECT_EQ(winner_line({row("auto", 1, 0.1, 2), row("balanced", 13, 0.2, 6)}),
            "auto: 2.00x sooner per token and 13x to the first token than balanced, which leaves "
            "4.00 GiB more off the gpus\n");
  EXPECT_EQ(winner_line({row("auto", 1, 0.1, 0), row("balanced", 2, 0.1, 0)}),
            "auto: 2.00x sooner to the first token than balanced\n");
  EXPECT_EQ(winner_line({row("auto", 1, 0.1, 2), row("balanced", 1, 0.1, 2)}),
            "auto: as fast as balanced\n");
}

TEST(Compare, DoesNotHideThatTheWinnerIsLaterPerToken) {
  EXPECT_EQ(winner_line({row("auto", 1, 0.11, 2), row("balanced", 30, 0.1, 2)}),
            "auto: 2.84x sooner with all of 512 prompt and 128 new tokens than balanced\n");
}

TEST(Compare, LetsAnotherPolicyWinAndCountsOnlyThoseThatFit) {
  EXPECT_THAT(winner_line({row("auto", 1, 0.2, 0), row("balanced", 1, 0.1, 0),
                           row("sequential", 1, 0.2, 0)}),
              HasSubstr("balanced: 2.00x sooner per token than sequential"));
  ComparedPlan broken = row("balanced", 1, 0.01, 0);
  broken.plan->shortfall = Shortfall{testing::kGiB, "", {}};
  EXPECT_EQ(winner_line({row("auto", 1, 0.2, 0), broken}),
            "auto: the soonest of those that fit; balanced is short by 1.00 GiB\n");
  EXPECT_EQ(winner_line({broken}), "none of them fits\n");
}

TEST(Compare, ShowsAPolicyThatCannotAnswerAsARowWithItsReason) {
  const std::vector<ComparedPlan> rows{row("auto", 1, 0.2, 3), {"balanced", {}, "no such thing"}};
  const std::string report = comparison_report(rows);
  EXPECT_THAT(report,
              HasSubstr("POLICY    FIRST TOKEN  PER TOKEN  TOKENS/S  GPU 0   CPU  SPILLED"));
  EXPECT_THAT(report,
              HasSubstr("auto           1.00 s   200.0 ms       5.0  12.00  3.00     3.00  fits"));
  EXPECT_THAT(report, HasSubstr("balanced            -          -         -      -     -        -  "
                                "no such thing"));
}

TEST(Compare, GivesManyGpusATableOfTheirOwn) {
  ComparedPlan wide = row("auto", 1, 0.2, 0);
  for (int gpu = 1; gpu < 8; ++gpu) {
    DeviceLedger device = wide.plan->devices[0];
    device.name = std::to_string(gpu);
    wide.plan->devices.insert(wide.plan->devices.end() - 1, device);
  }
  const std::string report = comparison_report({wide});
  EXPECT_THAT(report, HasSubstr("TOKENS/S  SPILLED  VERDICT"));
  EXPECT_THAT(report, HasSubstr("WEIGHTS  GPU 0  GPU 1"));
}

}  // namespace
}  // namespace berth

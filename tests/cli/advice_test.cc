// Which machine and precision is best, and how that is written.

#include "cli/report/advice.h"

#include <gmock/gmock.h>
#include <simdjson.h>

#include "cli/report/advice_report.h"
#include "cli/report/advice_svg.h"
#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

AdviceRow row(const std::string& machine, double rate, std::optional<Price> price = {}) {
  AdviceRow made;
  made.machine = machine;
  made.precision = "fp8";
  made.gpu_bytes = 80 * testing::kGiB;
  made.price = std::move(price);
  made.fits = true;
  made.weights = {{"0", 8 * testing::kGiB}, {"cpu", 0}};
  made.prefill_seconds = 0.5;
  made.tokens_per_second = rate;
  made.seconds_per_token = 1 / rate;
  return made;
}

AdviceRow unfit(const std::string& machine, std::uint64_t missing) {
  AdviceRow made = row(machine, 1000);
  made.fits = false;
  made.missing = missing;
  return made;
}

AdviceRow failed(const std::string& machine) {
  AdviceRow made;
  made.machine = machine;
  made.precision = "fp8";
  made.error = "no such thing";
  return made;
}

Advice ranked(std::vector<AdviceRow> rows, std::optional<double> want = {}) {
  Advice advice;
  advice.rows = std::move(rows);
  advice.want = want;
  advice.workload.context = 4096;
  rank(advice);
  return advice;
}

std::vector<std::string> order(const Advice& advice) {
  std::vector<std::string> names;
  for (const AdviceRow& one : advice.rows) names.push_back(one.machine);
  return names;
}

// 2.5 an hour at 100 tokens/s: 360,000 tokens an hour, so 6.94 for a million.
TEST(Advice, PricesGeneratedTokens) {
  EXPECT_NEAR(*million_price(row("a", 100, Price{2.5, "USD"})), 6.9444, 1e-4);
  EXPECT_FALSE(million_price(row("a", 100)));
  AdviceRow unknown = row("a", 100, Price{2.5, ""});
  unknown.tokens_per_second = 0;
  EXPECT_FALSE(million_price(unknown));
}

TEST(Advice, PutsTheCheapestThatReachesTheRateFirst) {
  const Advice advice =
      ranked({row("slow", 10, Price{0.5, "USD"}), failed("broken"), unfit("small", 5),
              row("dear", 900, Price{20, "USD"}), row("unpriced", 500),
              row("right", 30, Price{2, "USD"}), unfit("nearly", 2), row("slower", 5)},
             20);
  EXPECT_THAT(order(advice), ElementsAre("right", "dear", "unpriced", "slow", "slower", "nearly",
                                         "small", "broken"));
  ASSERT_NE(advice.best(), nullptr);
  EXPECT_EQ(advice.best()->machine, "right");
}

// By the hour "right" is the cheapest, by the token "dear".
TEST(Advice, GoesByThePriceOfATokenWhereNoRateIsWanted) {
  EXPECT_THAT(order(ranked({row("right", 30, Price{2, ""}), row("dear", 900, Price{20, ""})})),
              ElementsAre("dear", "right"));
}

TEST(Advice, TakesTheCheaperTokenOfOneMachine) {
  EXPECT_THAT(order(ranked({row("bf16", 30, Price{2, ""}), row("fp8", 55, Price{2, ""})}, 20)),
              ElementsAre("fp8", "bf16"));
}

TEST(Advice, WithoutPricesTakesTheFastestThenTheSmallest) {
  AdviceRow large = row("large", 100);
  large.gpu_bytes *= 8;
  EXPECT_THAT(order(ranked({row("slow", 50), large, row("small", 100)}, 20)),
              ElementsAre("small", "large", "slow"));
}

TEST(Advice, DoesNotCompareCurrencies) {
  const Advice advice = ranked({row("a", 50, Price{1, "USD"}), row("b", 60, Price{9, "EUR"})}, 20);
  EXPECT_TRUE(advice.priced);
  EXPECT_FALSE(advice.comparable);
  EXPECT_THAT(order(advice), ElementsAre("b", "a"));
}

TEST(Advice, HasNoBestWhereNothingReachesTheRate) {
  const Advice advice = ranked({row("a", 10), row("b", 15)}, 20);
  EXPECT_EQ(advice.best(), nullptr);
  EXPECT_EQ(best_line(advice),
            "none reaches 20 tokens/s; the fastest is b in fp8, 15.0 tokens/s, first token in "
            "500.0 ms");
  EXPECT_EQ(best_line(ranked({unfit("a", 1)})), "none of them fits");
}

// What rests on a guess is never said as if it were known.
TEST(Advice, CallsAnEstimateOne) {
  Plan plan = testing::made_plan().plan;
  plan.guessed = true;
  AdviceRow made = row("a", 1);
  take_plan(plan, made);
  EXPECT_TRUE(made.guessed);
  const Advice any = ranked({made});
  EXPECT_EQ(verdict_text(any, any.rows[0]), "fits by these estimates");
  EXPECT_THAT(best_line(any), HasSubstr("best by these estimates: a in fp8"));
  const Advice wanted = ranked({made}, 5);
  EXPECT_EQ(verdict_text(wanted, wanted.rows[0]), "reaches 5 tokens/s by these estimates");
  Model model = testing::made_model();
  model.tree.guesses = {"its heads are guessed"};
  EXPECT_THAT(advice_json(model, any), HasSubstr("\"its heads are guessed\""));
}

TEST(Advice, TakesItsFiguresFromThePlan) {
  Plan plan = testing::made_plan().plan;
  plan.workload.batch = 4;
  plan.notes = {"a note"};
  AdviceRow made;
  made.gpu_bytes = 1;
  take_plan(plan, made);
  EXPECT_TRUE(made.fits);
  EXPECT_FALSE(made.on_gpus());
  EXPECT_EQ(made.weight_bytes(), 15 * testing::kGiB);
  EXPECT_THAT(made.spilled, ElementsAre(std::pair("cpu", 4 * testing::kGiB)));
  EXPECT_EQ(made.tokens_per_second, 4 / 0.05);
  EXPECT_THAT(made.notes, ElementsAre("a note"));
  plan.shortfall = Shortfall{7, "", {}};
  AdviceRow short_row;
  take_plan(plan, short_row);
  EXPECT_FALSE(short_row.fits);
  EXPECT_EQ(short_row.missing, 7u);
}

TEST(AdviceReport, IsATableOfWhatFitsWhere) {
  AdviceRow spills = row("2x4090", 3);
  spills.precision = "auto";
  spills.weights = {{"0", testing::kGiB}, {"cpu", 2 * testing::kGiB}};
  spills.spilled = {{"cpu", 2 * testing::kGiB}};
  AdviceRow anew = row("h200", 40, Price{3, "USD"});
  anew.made_anew = true;
  Advice advice = ranked({spills, row("h100", 50, Price{2.5, "USD"}), anew, unfit("small", 7)}, 20);
  advice.notes = {"something is assumed"};
  Model model = testing::made_model();
  model.tree.quantization = "GPTQ 4-bit";
  const std::string report = advice_report(model, advice);
  EXPECT_THAT(
      report,
      HasSubstr("MACHINE  PRECISION  WEIGHTS     FITS   SPILLED  FIRST TOKEN  TOKENS/S   PRICE/H  "
                "1M TOKENS  VERDICT\n"
                "h100           fp8     8.00  on gpus         -     500.0 ms      50.0  2.50 USD  "
                "    13.89  reaches 20 tokens/s\n"
                "h200         fp8 *     8.00  on gpus         -     500.0 ms      40.0  3.00 USD  "
                "    20.83  reaches 20 tokens/s\n"
                "2x4090   as stored     3.00  spilled  2.00 cpu     500.0 ms       3.0         -  "
                "        -  below 20 tokens/s\n"
                "small          fp8     8.00       no         -            -         -         -  "
                "        -  does not fit: short by 7 B\n"))
      << report;
  EXPECT_THAT(report, HasSubstr("best: h100 in fp8, 50.0 tokens/s, first token in 500.0 ms, 2.50 "
                                "USD an hour: 13.89 USD a million generated tokens\n"));
  EXPECT_THAT(report, HasSubstr("* would have to be made anew: stored is GPTQ 4-bit\n"));
  EXPECT_THAT(report, HasSubstr("note        something is assumed\n"));
}

TEST(AdviceReport, NamesFilesWithoutTheirFolderWhereThatIsClear) {
  const Advice advice = ranked({row("a/x.yaml", 3), row("b/y.yaml", 2), row("c/y.yaml", 1)});
  EXPECT_EQ(machine_label(advice, advice.rows[0]), "x");
  EXPECT_EQ(machine_label(advice, advice.rows[1]), "b/y.yaml");
}

TEST(AdviceReport, LeavesPricesOutWhereThereAreNone) {
  EXPECT_THAT(advice_report(testing::made_model(), ranked({row("a", 10)})),
              Not(HasSubstr("PRICE")));
}

TEST(AdviceJson, HasARowForEachPlan) {
  const Advice advice = ranked({row("a", 50, Price{2.5, "USD"}), unfit("b", 7), failed("c")}, 20);
  simdjson::dom::parser parser;
  const std::string text = advice_json(testing::made_model(), advice);
  const simdjson::dom::element json = parser.parse(text).value();
  EXPECT_EQ(double(json["want_tokens_per_second"]), 20);
  EXPECT_EQ(std::string_view(json["best"]["machine"]), "a");
  EXPECT_EQ(std::uint64_t(json["workload"]["context"]), 4096u);
  const simdjson::dom::array rows = json["rows"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(bool(rows.at(0)["reaches"]));
  EXPECT_EQ(double(rows.at(0)["price_per_hour"]), 2.5);
  EXPECT_EQ(std::string_view(rows.at(0)["currency"]), "USD");
  EXPECT_NEAR(double(rows.at(0)["price_per_million_tokens"]), 13.8889, 1e-4);
  EXPECT_EQ(std::uint64_t(rows.at(0)["weights"]["0"]), 8 * testing::kGiB);
  EXPECT_FALSE(bool(rows.at(1)["fits"]));
  EXPECT_EQ(std::uint64_t(rows.at(1)["shortfall_bytes"]), 7u);
  EXPECT_EQ(std::string_view(rows.at(2)["error"]), "no such thing");
}

TEST(AdviceSvg, DrawsABarForEachRowThatFitsAndTheRateThatIsWanted) {
  const Advice advice = ranked({row("fast", 100), row("slow", 10), unfit("small", 7)}, 20);
  const std::string svg = advice_svg(testing::made_model(), advice);
  EXPECT_THAT(svg, HasSubstr("wanted: 20 tokens/s"));
  EXPECT_THAT(svg, HasSubstr("width=\"430.00\""));  // the fastest
  EXPECT_THAT(svg, HasSubstr("width=\"43.00\""));   // a tenth of it
  EXPECT_THAT(svg, HasSubstr("does not fit: short by 7 B"));
}

}  // namespace
}  // namespace berth

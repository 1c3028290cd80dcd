#include "cli/plan_report.h"

#include <gtest/gtest.h>

#include <sstream>

#include "cli/dot.h"
#include "cli/plan_json.h"
#include "tests/cli/made_plan.h"

namespace berth {
namespace {

std::vector<double> numbers_in(const std::string& line) {
  std::istringstream in(line);
  std::vector<double> numbers;
  for (std::string word; in >> word;) {
    char* end = nullptr;
    const double number = std::strtod(word.c_str(), &end);
    if (*end == '\0' && word.find('.') != std::string::npos) numbers.push_back(number);
  }
  return numbers;
}

TEST(PlanReport, ShowsTheWholePlanOfASmallModel) {
  EXPECT_EQ(plan_report(testing::made_plan(), {}),
            R"(made   llama, 6 layers, bfloat16, 8,053,063,680 parameters, 15.00 GiB
policy auto, on a made machine; batch 1, context 4,096; table in GiB

DEVICE  CAPACITY  RESERVED  WEIGHTS    KV  WORKSPACE   FREE  LAYERS
gpu 0      12.00      0.50    11.00  0.13       0.06   0.31  embed_tokens, layers.0-3, norm, lm_head
cpu        64.00      0.00     4.00  0.06       0.00  59.94  layers.4-5

gpu 0  model.embed_tokens      1.00 GiB  the fastest device with room
       model.layers.0-3    4 x 2.00 GiB
       model.norm              1.00 GiB
       lm_head                 1.00 GiB
cpu    model.layers.4-5    2 x 2.00 GiB  gpu 0 is full

load peak   host RAM 128.0 MiB (the plain way: 30.00 GiB)
after load  gpu 0 11.00, cpu 4.00 GiB
estimate    512 prompt tokens in 250.0 ms, then 50.0 ms a token (20.0 tokens/s); 6.65 s with 128 new
            tokens
fits
)");
}

TEST(PlanReport, SaysInOneSentenceWhatIsMissingAndWhatWouldHelp) {
  Planned planned = testing::made_plan();
  DeviceLedger& gpu = planned.plan.devices[0];
  gpu.capacity = 10 * testing::kGiB;
  gpu.free = 0;
  gpu.over = gpu.reserved + gpu.weights + gpu.kv_cache + gpu.workspace - gpu.capacity;
  planned.plan.shortfall = Shortfall{gpu.over, "", {"--context 1024", "--dtype float16"}};
  EXPECT_EQ(verdict(planned.plan, false),
            "does not fit: short by 1.69 GiB on gpu 0\n"
            "  try: --context 1024\n"
            "  try: --dtype float16\n");
  const std::string table = device_table(planned);
  EXPECT_NE(table.find("-1.69"), std::string::npos) << table;
}

TEST(PlanReport, SaysThatNothingIsOnAGpu) {
  Planned planned = testing::made_plan();
  EXPECT_EQ(after_load_line(planned.plan).find("nothing is on a GPU"), std::string::npos);
  planned.plan.devices[0].weights = 0;
  EXPECT_NE(after_load_line(planned.plan).find("nothing is on a GPU"), std::string::npos);
}

TEST(PlanReport, RowsAddUpAsPrintedWhateverTheBytes) {
  for (std::uint64_t seed = 1; seed < 300; ++seed) {
    Planned planned = testing::made_plan();
    for (DeviceLedger& device : planned.plan.devices) {
      const auto some = [&](std::uint64_t salt) {
        return (seed * 2654435761u + salt * 40503u + device.capacity) * 7919u % (3 * testing::kGiB);
      };
      device.reserved = some(1);
      device.weights = some(2);
      device.kv_cache = some(3);
      device.workspace = some(4);
      const std::uint64_t used =
          device.reserved + device.weights + device.kv_cache + device.workspace;
      device.capacity = seed % 3 == 0 ? used : some(5) + testing::kGiB;
      device.free = device.capacity > used ? device.capacity - used : 0;
      device.over = used > device.capacity ? used - device.capacity : 0;
    }
    std::istringstream lines(device_table(planned));
    std::string line;
    std::getline(lines, line);  // headers
    while (std::getline(lines, line)) {
      const std::vector<double> n = numbers_in(line);
      if (n.size() < 6) continue;
      EXPECT_NEAR(n[0], n[1] + n[2] + n[3] + n[4] + n[5], 1e-6) << line;
    }
  }
}

TEST(PlanReport, ListsEveryModuleWhenAsked) {
  const std::string report = plan_report(testing::made_plan(), {.verbose = true});
  for (const char* name : {"model.layers.0\n", "model.layers.3\n", "model.layers.5\n"}) {
    EXPECT_NE(report.find(name), std::string::npos) << name;
  }
}

TEST(PlanReport, StaysWithinAHundredColumnsWithLongReasons) {
  Planned planned = testing::made_plan();
  for (ModulePlacement& placed : planned.plan.placement) {
    placed.reason =
        "a reason that goes on and on, with figures like 12.34 GiB and device names, "
        "until it has to be wrapped because no terminal is that wide";
  }
  std::istringstream lines(plan_report(planned, {}));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
}

TEST(PlanDot, ColoursDevicesAndMarksHops) {
  const std::string dot = plan_dot(testing::made_plan());
  EXPECT_EQ(dot.rfind("digraph", 0), 0u);
  std::size_t hops = 0;
  for (std::size_t at = dot.find("label=\"hop\""); at != std::string::npos;
       at = dot.find("label=\"hop\"", at + 1)) {
    ++hops;
  }
  EXPECT_EQ(hops, 2u);  // onto the CPU and back
  EXPECT_NE(dot.find("model.layers.4\\n2.00 GiB\\ncpu"), std::string::npos) << dot;
}

}  // namespace
}  // namespace berth

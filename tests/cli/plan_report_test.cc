#include "cli/report/plan_report.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "berth/planner.h"
#include "cli/report/dot.h"
#include "cli/report/plan_file.h"
#include "cli/report/plan_json.h"
#include "cli/report/svg.h"
#include "tests/cli/made_plan.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

NEEDS     LARGEST LAYER      TOTAL  KV CACHE OF 1,000 TOKENS
float32        4.00 GiB  30.00 GiB  -
bfloat16       2.00 GiB  15.00 GiB  -
int8           1.00 GiB   7.50 GiB  -
4-bit         512.0 MiB   3.75 GiB  -

load peak   host RAM 128.0 MiB (the plain way: 30.00 GiB)
after load  gpu 0 11.00, cpu 4.00 GiB
estimate    first token 250.0 ms, then 50.0 ms a token (20.0 tokens/s); score 6.65 s with 512 prompt
            tokens and 128 new tokens; proven best
fits
)");
}

// To look for each name among all others took 20 s.
TEST(PlanReport, TakesVeryManyModulesSideBySide) {
  Planned planned;
  planned.model.tree.name = "many";
  const ModuleId root = testing::add_module(planned.model.tree, "", kNone);
  planned.plan.devices.push_back({.name = "cpu", .kind = DeviceKind::kCpu});
  constexpr int kCount = 200'000;
  for (int i = 0; i < kCount; ++i) {
    const ModuleId module = testing::add_module(planned.model.tree, "m" + std::to_string(i), root);
    planned.plan.placement.push_back({module, 0, 4, "the only device"});
  }
  const std::string report = plan_report(planned, {});
  EXPECT_EQ(std::count(report.begin(), report.end(), '\n') > kCount, true);
  EXPECT_THAT(report.substr(report.size() / 2), HasSubstr("m199999 "));
}

TEST(PlanReport, NamesTheQuantisationAndTheParametersOfTheModel) {
  Model model = testing::made_model();
  model.tree.quantization = "GPTQ 4-bit";
  for (ModelTensor& tensor : model.tree.tensors) {
    if (tensor.name.find("layers") == std::string::npos) continue;
    tensor.stored = tensor.dtype = DType::kI32;
    tensor.shape[1] /= 2;
    tensor.values = tensor.elements() * 8;
  }
  EXPECT_EQ(model_line(model),
            "made   llama, 6 layers, GPTQ 4-bit (int32 + bfloat16), 27,380,416,512 parameters, "
            "15.00 GiB\n");
  for (ModelTensor& tensor : model.tree.tensors) {
    if (tensor.stored == DType::kBF16) tensor.dtype = DType::kF32;
  }
  EXPECT_EQ(model_line(model),
            "made   llama, 6 layers, GPTQ 4-bit (int32 + float32, stored as int32 + bfloat16), "
            "27,380,416,512 parameters, 18.00 GiB\n");
}

TEST(PlanReport, SaysInOneSentenceWhatIsMissingAndWhatWouldHelp) {
  Planned planned = testing::made_plan();
  DeviceLedger& gpu = planned.plan.devices[0];
  gpu.capacity = 10 * testing::kGiB;
  gpu.free = 0;
  gpu.over = gpu.reserved + gpu.weights + gpu.kv_cache + gpu.workspace - gpu.capacity;
  planned.plan.shortfall = Shortfall{gpu.over, "", {"--context 1024", "--dtype float16"}};
  EXPECT_EQ(verdict(planned, false),
            "does not fit: short by 1.69 GiB on gpu 0\n"
            "  try: --context 1024\n"
            "  try: --dtype float16\n");
  const std::string table = device_table(planned);
  EXPECT_NE(table.find("-1.69"), std::string::npos) << table;
}

TEST(PlanReport, SaysHowFarFromTheBestOnlyWhereItIsProven) {
  Planned planned = testing::made_plan();
  EXPECT_THAT(plan_report(planned, {}), HasSubstr("; proven best"));
  planned.plan.estimate.optimality_gap = 0.123;
  EXPECT_THAT(plan_report(planned, {}), HasSubstr("within 12 % of the best"));
  planned.plan.estimate.optimality_gap = 0.0001;
  EXPECT_THAT(plan_report(planned, {}), HasSubstr("within 0.1 % of the best"));
  planned.plan.policy = Policy::kThroughput;
  EXPECT_THAT(plan_report(planned, {}), HasSubstr("its slowest stage is within 0.1 %"));
  planned.plan.estimate.optimality_gap.reset();
  EXPECT_THAT(plan_report(planned, {}), Not(HasSubstr("of the best")));
  planned.plan.policy = Policy::kAuto;
  planned.plan.estimate.optimality_gap = 0;
  planned.plan.shortfall = Shortfall{1, "", {}};
  EXPECT_THAT(plan_report(planned, {}), Not(HasSubstr("proven best"))) << "it does not fit";
}

TEST(PlanReport, ProvesNothingByFiguresThatAreGuessed) {
  Planned planned = testing::made_plan();
  planned.plan.guessed = true;
  planned.plan.estimate.optimality_gap.reset();
  planned.plan.estimate.guessed_gap = 0;
  planned.model.tree.guesses = {"nobody knows"};
  std::string text = plan_report(planned, {});
  EXPECT_THAT(text, HasSubstr("best by these estimates"));
  EXPECT_THAT(text, HasSubstr("\nfits by these estimates\n"));
  EXPECT_THAT(text, Not(HasSubstr("proven")));
  EXPECT_THAT(plan_svg(planned), HasSubstr(">fits by these estimates<"));
  planned.plan.estimate.guessed_gap = 0.123;
  EXPECT_THAT(plan_report(planned, {}), HasSubstr("any placement can do by these\n"));
  text = plan_json(planned);
  EXPECT_THAT(text, HasSubstr(R"("optimality_gap": null)"));
  EXPECT_THAT(text, HasSubstr(R"("guessed_gap": 0.123)"));
  EXPECT_THAT(text, HasSubstr(R"("guessed": [)"));
  EXPECT_EQ(parse_plan_file(text, "p.json").plan.estimate.guessed_gap, 0.123);
}

TEST(PlanReport, TellsStagesApartAndNamesTheOneThatBinds) {
  Planned planned = testing::made_plan();
  EXPECT_THAT(plan_report(planned, {.verbose = true}), Not(HasSubstr("STAGE")));
  Estimate& estimate = planned.plan.estimate;
  estimate.stages = {{0, 0.05, 0.009, "FLOP/s", "memory bandwidth"},
                     {1, 0.199, 0.04, "link cpu -> gpu 0", "memory bandwidth"}};
  estimate.hops_prefill_seconds = 0.001;
  estimate.hops_seconds_per_token = 0.001;
  const std::string text = plan_report(planned, {.verbose = true});
  EXPECT_THAT(text, HasSubstr(R"(STAGE   FIRST TOKEN         LIMITED BY  PER TOKEN  LIMITED BY
gpu 0       50.0 ms             FLOP/s     9.0 ms  memory bandwidth
cpu        199.0 ms  link cpu -> gpu 0    40.0 ms  memory bandwidth
hops         1.0 ms              links     1.0 ms  links
in all     250.0 ms                       50.0 ms
)"));
  EXPECT_THAT(text, HasSubstr("80 % of a token is cpu, by memory"));
}

TEST(PlanReport, SaysWhatStandsInTheWay) {
  Planned planned = testing::made_plan();
  planned.plan.shortfall = Shortfall{testing::kGiB, "never-offload keeps all on GPUs", {"less"}};
  EXPECT_EQ(verdict(planned, false),
            "does not fit: short by 1.00 GiB\n"
            "  why: never-offload keeps all on GPUs\n"
            "  try: less\n");
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

TEST(PlanDot, SendsActivationsToTheExpertsAndBack) {
  const std::string dot = plan_dot(testing::cut_layers(2));
  for (const char* words :
       {"0[label=\"model.layers.0 rest\\n2.00 GiB\\ngpu ",
        "1[label=\"model.layers.0 experts\\n6.00 GiB", "2[label=\"model.layers.1 rest",
        "0->1 [label=\"hop\"", "1->0 [label=\"hop\"", "0->2 ;", "2->3 [label=\"hop\"",
        "3->2 [label=\"hop\""}) {
    EXPECT_THAT(dot, HasSubstr(words));
  }
  EXPECT_THAT(dot, Not(HasSubstr("1->2")));
}

}  // namespace
}  // namespace berth

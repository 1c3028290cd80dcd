// berth plan --across as a process: each row is a plan, and mistakes are named.

#include <gmock/gmock.h>
#include <simdjson.h>

#include <set>

#include "tests/cli/berth_process.h"

namespace berth::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kLlama = BERTH_SOURCE_DIR "/configs/models/llama-3.3-70b/config.json";
const std::string kGptOss = BERTH_SOURCE_DIR "/configs/models/gpt-oss-120b/config.json";

std::string text_of(const simdjson::dom::element& row, const char* key) {
  return std::string(row[key].get_string().value());
}

// Of a device's weights as the plan alone has them: {device: bytes}.
std::uint64_t weights_of(const simdjson::dom::element& plan, std::string_view name) {
  for (const simdjson::dom::element device : plan["devices"]) {
    if (std::string_view(device["name"]) == name) return device["weights"];
  }
  return 0;
}

// Holds a row to the plan that `berth plan` makes with these arguments.
void expect_same(const simdjson::dom::element& row, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "plan");
  arguments.emplace_back("--json");
  const Answer answer = berth(arguments);
  simdjson::dom::parser parser;
  const simdjson::dom::element plan = parser.parse(answer.out).value();
  EXPECT_EQ(bool(row["fits"]), bool(plan["fits"]));
  const simdjson::dom::element estimate = plan["estimate"];
  for (const char* key : {"prefill_seconds", "seconds_per_token", "score_seconds"}) {
    EXPECT_EQ(double(row[key]), double(estimate[key])) << key;
  }
  for (const auto [device, bytes] : simdjson::dom::object(row["weights"])) {
    EXPECT_EQ(std::uint64_t(bytes), weights_of(plan, device)) << device;
  }
  EXPECT_EQ(std::uint64_t(row["bytes"]), std::uint64_t(plan["model"]["bytes"]));
  if (!bool(row["fits"])) {
    EXPECT_EQ(std::uint64_t(row["shortfall_bytes"]), std::uint64_t(plan["shortfall"]["bytes"]));
  }
}

TEST(Across, EachRowIsWhatThePlanOfItsOwnSays) {
  const Answer answer = berth({"plan", kLlama, "--across", "2x4090,h100,3xh100", "--dtypes",
                               "auto,float16,fp8,q4_k_m", "--context", "8192", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element table = parser.parse(answer.out).value();
  EXPECT_EQ(std::uint64_t(table["workload"]["context"]), 8192u);
  const simdjson::dom::array rows = table["rows"];
  ASSERT_EQ(rows.size(), 12u);
  for (const simdjson::dom::element row : rows) {
    const std::string machine = text_of(row, "machine");
    const std::string dtype = text_of(row, "dtype");
    SCOPED_TRACE(machine + " " + dtype);
    expect_same(row, {kLlama, "--machine", machine, "--dtype", dtype, "--context", "8192"});
  }
}

// gpt-oss is stored in MXFP4: floats are made by --dequantize, all else would have to be made anew.
TEST(Across, KeepsTheRowOfWhatIsStoredAndMarksWhatIsNot) {
  const Answer answer =
      berth({"plan", kGptOss, "--across", "h200", "--dtypes", "bfloat16,q4_k_m", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element table = parser.parse(answer.out).value();
  std::set<std::string> seen;
  for (const simdjson::dom::element row : table["rows"]) {
    const std::string dtype = text_of(row, "dtype");
    seen.insert(dtype);
    SCOPED_TRACE(dtype);
    EXPECT_EQ(bool(row["made_anew"]), dtype == "q4_k_m");
    std::vector<std::string> arguments{kGptOss, "--machine", "h200", "--dtype", dtype};
    if (dtype == "bfloat16") arguments.emplace_back("--dequantize");
    expect_same(row, arguments);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"auto", "bfloat16", "q4_k_m"}));
  EXPECT_THAT(berth({"plan", kGptOss, "--across", "h200", "--dtypes", "q4_k_m"}).out,
              AllOf(HasSubstr("as stored"), HasSubstr("q4_k_m *"),
                    HasSubstr("* would have to be made anew: stored is MXFP4")));
}

std::string priced(const std::string& price, const std::string& gpu, const std::string& rate) {
  return "price: " + price + "\ndevices:\n  - {name: '0', capacity: " + gpu +
         ", memory_bandwidth: " + rate + "}\n  - {name: cpu, capacity: 256GiB}\n";
}

TEST(Across, PutsTheCheapestMachineThatIsFastEnoughFirst) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string slow = folder.write("slow.yaml", priced("1/h", "24GiB", "1MB/s"));
  const std::string dear = folder.write("dear.yaml", priced("9/h", "24GiB", "3TB/s"));
  const std::string right = folder.write("right.yaml", priced("4/h", "24GiB", "1TB/s"));
  const Answer answer = berth({"plan", model, "--across", slow + "," + dear + "," + right,
                               "--dtypes", "auto", "--want", "1000tok/s"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.out, AllOf(HasSubstr("1M TOKENS"), HasSubstr("below 1000 tokens/s"),
                                HasSubstr("best: right as stored")));
  EXPECT_LT(answer.out.find("\nright "), answer.out.find("\ndear "));
  EXPECT_LT(answer.out.find("\ndear "), answer.out.find("\nslow "));
}

TEST(Across, TakesItsListsFromADeploymentFile) {
  const TemporaryFolder folder;
  tiny_llama(folder, "m");
  folder.write("machines/mine.yaml", priced("1/h", "24GiB", "1TB/s"));
  const std::string file = folder.write("deploy.yaml",
                                        "model: m\nacross: [h100, machines/mine.yaml]\n"
                                        "dtypes: [bfloat16, q8_0]\nwant: 5tok/s\n");
  const Answer answer = berth({"plan", file, "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element table = parser.parse(answer.out).value();
  EXPECT_EQ(simdjson::dom::array(table["rows"]).size(), 4u);
  EXPECT_EQ(double(table["want_tokens_per_second"]), 5);
  // A flag for one machine silences the lists.
  EXPECT_THAT(berth({"plan", file, "--machine", "h100"}).out, HasSubstr("on h100.yaml"));
}

TEST(Across, PlansForAllMachinesThatBerthComesWith) {
  const Answer answer = berth({"plan", kLlama, "--across", "all", "--dtypes", "q4_k_m"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  for (const char* machine : {"2x4090", "h100", "8xh200", "mixed-24-8-8-8"}) {
    EXPECT_THAT(answer.out, HasSubstr("\n" + std::string(machine) + " ")) << machine;
  }
}

TEST(Across, ExitsTwoWhereNothingFits) {
  const Answer answer =
      berth({"plan", kLlama, "--across", "2x4090", "--dtypes", "bfloat16", "--never-offload"});
  EXPECT_EQ(answer.exit_code, 2) << answer.talk;
  EXPECT_THAT(answer.out, HasSubstr("none of them fits"));
}

TEST(Across, DrawsAPicture) {
  const Answer answer =
      berth({"plan", kLlama, "--across", "h100,8xh200", "--dtypes", "fp8", "--svg", "-"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.out, AllOf(HasSubstr("<svg"), HasSubstr("8xh200"), HasSubstr("</svg>")));
}

TEST(Across, NamesWhatIsWrongWithItsLists) {
  struct Mistake {
    std::vector<std::string> arguments;
    int exit_code;
    std::string says;
  };
  const std::vector<Mistake> mistakes{
      {{"--across", "h10"}, 1, "h10: no such machine file"},
      {{"--across", "h10"}, 1, "(did you mean 'h100'? there: 2"},
      {{"--across", "3xh10O"}, 1, "did you mean '3xh100'?"},
      {{"--across", "2x4O90"}, 1, "did you mean '2x4090'?"},
      {{"--across", "3x2x4090"}, 1, "2x4090 has 2 GPUs"},
      {{"--across", ""}, 64, "--across: a machine is missing"},
      {{"--across", "h100,,h200"}, 64, "--across: a machine is missing"},
      {{"--across", "h100,h100"}, 64, "--across: 'h100' is named twice"},
      {{"--across", "h100", "--dtypes", "q4_k_n"}, 64, "did you mean 'q4_k_m'?"},
      {{"--across", "h100", "--dtypes", "nonsense"}, 64, "choose from: auto, float32"},
      {{"--across", "h100", "--dtypes", ""}, 64, "--dtypes: a precision is missing"},
      {{"--across", "h100", "--dtypes", "bf16,bfloat16"}, 64, "'bfloat16' is named twice"},
      {{"--across", "h100", "--want", "fast"}, 64, "--want: 'fast' is not a rate of tokens"},
      {{"--across", "h100", "--want", "0"}, 64, "is not a rate of tokens"},
      {{"--across", "h100", "--machine", "h200"}, 64, "--machine excludes --across"},
      {{"--across", "h100", "--device-map", "x"}, 64, "--device-map excludes --across"},
      {{"--across", "h100", "--save", "x"}, 64, "--across excludes --save"},
      {{"--across", "h100", "--compare"}, 64, "--across excludes --compare"},
      {{"--across", "h100", "--dtype", "fp8"}, 64, "--dtype excludes --across"},
      {{"--dtypes", "fp8"}, 64, "--dtypes: is for --across"},
      {{"--want", "3"}, 64, "--want: is for --across"},
  };
  for (const Mistake& mistake : mistakes) {
    std::vector<std::string> arguments{"plan", kLlama};
    arguments.insert(arguments.end(), mistake.arguments.begin(), mistake.arguments.end());
    const Answer answer = berth(arguments);
    EXPECT_EQ(answer.exit_code, mistake.exit_code) << mistake.says << answer.talk;
    EXPECT_THAT(answer.talk, HasSubstr(mistake.says));
    EXPECT_EQ(answer.out, "") << mistake.says;
  }
}

TEST(Across, NamesWhatIsWrongInADeploymentFile) {
  const TemporaryFolder folder;
  tiny_llama(folder, "m");
  const auto talk_of = [&](const std::string& lines) {
    return berth({"plan", folder.write("d.yaml", "model: m\n" + lines)}).talk;
  };
  EXPECT_THAT(talk_of("across: []\n"), HasSubstr("d.yaml:2: across: the list is empty"));
  EXPECT_THAT(talk_of("across: h100\ndtypes: []\n"),
              HasSubstr("d.yaml:3: dtypes: the list is empty"));
  EXPECT_THAT(
      talk_of("across: h100\ndtypes: [fp9]\n"),
      HasSubstr("d.yaml:3: dtypes[0]: 'fp9' is not a precision (did you mean 'fp8'? choose"));
  EXPECT_THAT(talk_of("machine: h100\nacross: h100\n"),
              HasSubstr("both machine and across are given; keep one"));
}

TEST(Precision, IsForPlansAlone) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  for (const char* command : {"load", "run"}) {
    const Answer answer = berth({command, model, "--dtype", "fp8"});
    EXPECT_EQ(answer.exit_code, 64) << answer.talk;
    EXPECT_THAT(answer.talk,
                HasSubstr("Berth does not quantise to fp8, and only plan can take it"));
  }
  const std::string machine = machine_file(folder, "24GiB", "64GiB");
  const std::string saved = folder.path() / "plan.json";
  const Answer plan =
      berth({"plan", model, "--machine", machine, "--dtype", "q8_0", "--save", saved});
  EXPECT_EQ(plan.exit_code, 0) << plan.talk;
  EXPECT_THAT(plan.out, HasSubstr("as if its weights were stored as q8_0"));
  const Answer load = berth({"load", model, "--plan", saved});
  EXPECT_EQ(load.exit_code, 1);
  EXPECT_THAT(load.talk, HasSubstr("was planned for weights in q8_0, which Berth does not make"));
}

TEST(Precision, OfAnUnknownNameIsRefusedWithTheNearest) {
  const Answer answer = berth({"plan", kLlama, "--machine", "h100", "--dtype", "q4_k_n"});
  EXPECT_EQ(answer.exit_code, 64);
  EXPECT_THAT(answer.talk,
              HasSubstr("'q4_k_n' is not a dtype (did you mean 'q4_k_m'? choose from: auto, "));
}

}  // namespace
}  // namespace berth::testing

// berth plan as a process: exit codes, what goes to stdout, and what never gets loaded.

#include <gmock/gmock.h>
#include <simdjson.h>

#include "berth/plan.h"
#include "tests/cli/berth_process.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

simdjson::dom::element parsed(simdjson::dom::parser& parser, const std::string& json) {
  return parser.parse(json).value();
}

TEST(PlanCommand, ExitsTwoWithTheShortfallWhereTheModelDoesNotFit) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::vector<std::string> small{"plan", model, "--max-memory", "0=1KiB,cpu=1KiB",
                                       "--never-offload"};
  const Answer answer = berth(small);
  EXPECT_EQ(answer.exit_code, 2) << answer.talk;
  EXPECT_THAT(answer.out, HasSubstr("does not fit: short by"));
  EXPECT_EQ(berth({"plan", model, "--max-memory", "0=1GiB,cpu=1GiB"}).exit_code, 0);
}

// These mixtures have placements that would take years, on which searches once did not end.
TEST(PlanCommand, ComparesPoliciesOnMixturesThatSpillToTheDisk) {
  const std::string models = BERTH_SOURCE_DIR "/configs/models/";
  for (const auto& [model, machine] :
       {std::pair("mixtral-8x22b", "2x4090"), std::pair("mixtral-8x22b", "mixed-24-8-8-8"),
        std::pair("deepseek-v3", "h100")}) {
    const Answer answer =
        berth({"plan", models + model + "/config.json", "--machine", machine, "--compare"});
    EXPECT_EQ(answer.exit_code, 0) << model << " on " << machine << ": " << answer.talk;
    EXPECT_THAT(answer.out, HasSubstr("throughput"));
  }
}

TEST(PlanCommand, TellsWhoComputesWhatStandsOnTheDiskAndKeepsItInAPlanFile) {
  const TemporaryFolder folder;
  const std::string config = BERTH_SOURCE_DIR "/configs/models/llama-3.3-70b/config.json";
  const Answer answer =
      berth({"plan", config, "--machine", "2x4090", "--exclude", "cpu", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element plan = parsed(parser, answer.out);
  EXPECT_EQ(std::string_view(plan["disk_runner"]), "0");
  for (const simdjson::dom::element device : plan["devices"]) {
    if (std::string_view(device["name"]) != "cpu") continue;
    EXPECT_EQ(std::uint64_t(device["kv_cache"]) + std::uint64_t(device["workspace"]), 0u);
  }
}

// Host RAM on two NUMA nodes: they are devices to Berth, and one `cpu` to everyone else.
TEST(PlanCommand, KeepsWhatStandsOnWhichNodeInAPlanFile) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string machine = folder.write("two.yaml",
                                           "devices:\n  - {name: cpu, capacity: 64MiB}\n"
                                           "  - {name: \"cpu:1\", capacity: 64MiB}\n");
  const std::string map =
      folder.write("map.json", R"({"": "cpu:1", "model.embed_tokens": "cpu:0"})");
  const std::string saved = (folder.path() / "plan.json").string();
  const Answer planned = berth({"plan", model, "--machine", machine, "--device-map", map,
                                "--context", "16", "--save", saved, "--json"});
  ASSERT_EQ(planned.exit_code, 0) << planned.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element plan = parsed(parser, planned.out);
  EXPECT_EQ(std::string_view(plan["device_map"][""]), "cpu");
  EXPECT_EQ(std::string_view(plan["node_map"]["model.embed_tokens"]), "cpu:0");
  EXPECT_EQ(std::string_view(plan["node_map"]["model.norm"]), "cpu:1");

  const Answer shown = berth({"plan", model, "--machine", machine, "--device-map", map, "--context",
                              "16", "--print-device-map"});
  EXPECT_EQ(shown.out.find("cpu:"), std::string::npos) << "accelerate knows no nodes";

  const Answer absent = berth({"load", model, "--plan", saved});
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_THAT(absent.talk, HasSubstr("cpu:1, a NUMA node that this machine does not have"));
  const Answer loaded = berth({"load", model, "--plan", saved, "--emulate", "--json"});
  ASSERT_EQ(loaded.exit_code, 0) << loaded.talk;
  EXPECT_THAT(loaded.out, HasSubstr("\"cpu:1\""));
}

TEST(PlanCommand, PlansForGpusOfOtherMakersAndLoadRefusesThem) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer planned = berth({"plan", model, "--machine", "mi300x", "--json"});
  ASSERT_EQ(planned.exit_code, 0) << planned.talk;
  simdjson::dom::parser parser;
  EXPECT_EQ(std::string_view(parsed(parser, planned.out)["devices"].at(0)["kind"]), "other");
  const Answer loaded = berth({"load", model, "--machine", "mi300x"});
  EXPECT_EQ(loaded.exit_code, 1);
  EXPECT_THAT(loaded.talk, HasSubstr("the plan uses gpu 0, which is of kind other"));
  EXPECT_EQ(berth({"load", model, "--machine", "mi300x", "--emulate"}).exit_code, 0);
}

// A pipeline of one component, which is a llama here: what matters is the folder around it.
TEST(PlanCommand, TakesPipelinesOfDiffusers) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "p");
  tiny_llama(folder, "p/transformer");
  folder.write("p/model_index.json",
               R"({"_class_name": "TinyPipeline", "transformer": ["diffusers", "Tiny"]})");
  const std::string pipeline = (folder.path() / "p").string();
  const Answer planned = berth({"plan", pipeline, "--max-memory", "cpu=1GiB"});
  ASSERT_EQ(planned.exit_code, 0) << planned.talk;
  EXPECT_THAT(planned.out, HasSubstr("TinyPipeline"));
  EXPECT_THAT(planned.out, HasSubstr("\nthe weights fit\n"));
  EXPECT_THAT(planned.out, Not(HasSubstr("\nestimate ")));
  EXPECT_EQ(berth({"checksum", pipeline}).exit_code, 0);
  const Answer loaded = berth({"load", pipeline, "--verify"});
  EXPECT_EQ(loaded.exit_code, 0) << loaded.talk;
  const Answer run = berth({"run", pipeline, "--prompt-ids", "1"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.talk, HasSubstr("is a pipeline of diffusers (TinyPipeline)"));
  const Answer converted = berth({"convert", pipeline, (folder.path() / "out").string()});
  EXPECT_EQ(converted.exit_code, 1);
  EXPECT_THAT(converted.talk, HasSubstr("convert its components one by one"));
}

// A family that nobody knows, by its numbers alone.
TEST(PlanCommand, CallsAnEstimateAnEstimate) {
  const TemporaryFolder folder;
  const std::string config = folder.write("config.json", R"({"model_type":"unheard_of",
      "hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":96,
      "vocab_size":128})");
  const std::vector<std::string> plan{"plan", config, "--max-memory", "0=8GiB"};
  const auto with = [&](const std::string& flag) {
    std::vector<std::string> arguments = plan;
    arguments.push_back(flag);
    return berth(arguments);
  };
  const Answer answer = berth(plan);
  EXPECT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.out, HasSubstr("\nfits by these estimates\n"));
  EXPECT_THAT(answer.out, HasSubstr("guessed: no template for model_type 'unheard_of'"));
  EXPECT_THAT(answer.out, Not(HasSubstr("proven")));
  EXPECT_THAT(with("--compare").out, HasSubstr("fits by these estimates"));
  EXPECT_THAT(with("--json").out, HasSubstr("\"optimality_gap\": null"));
  const Answer map = with("--print-device-map");
  EXPECT_EQ(map.exit_code, 1);
  EXPECT_THAT(map.talk, HasSubstr("names of its modules are not known"));
}

TEST(PlanCommand, GivesNoGapWhereNothingIsProven) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string machine = machine_file(folder, "24GiB", "64GiB");
  simdjson::dom::parser parser;
  for (const char* policy : {"balanced", "auto"}) {
    const Answer answer =
        berth({"plan", model, "--machine", machine, "--policy", policy, "--json"});
    const simdjson::dom::element gap = parsed(parser, answer.out)["estimate"]["optimality_gap"];
    EXPECT_EQ(gap.is_null(), std::string(policy) == "balanced") << policy;
  }
}

TEST(PlanCommand, JsonHasThePromisedKeysAndAddsUp) {
  const TemporaryFolder folder;
  const Answer answer = berth({"plan", tiny_llama(folder, "m"), "--json", "--machine",
                               machine_file(folder, "24GiB", "64GiB")});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  const simdjson::dom::element plan = parsed(parser, answer.out);
  for (const char* key : {"plan_version", "model", "fits", "policy", "devices", "device_map",
                          "placement", "load_peak", "estimate", "needs"}) {
    EXPECT_EQ(plan.at_key(key).error(), simdjson::SUCCESS) << key;
  }
  EXPECT_EQ(std::string_view(plan["model"]["type"]), "llama");
  EXPECT_EQ(std::uint64_t(plan["model"]["layers"]), 2u);
  std::uint64_t weights = 0;
  for (const simdjson::dom::element device : plan["devices"]) {
    weights += std::uint64_t(device["weights"]);
    EXPECT_EQ(std::int64_t(device["capacity"]),
              std::int64_t(device["reserved"]) + std::int64_t(device["weights"]) +
                  std::int64_t(device["kv_cache"]) + std::int64_t(device["workspace"]) +
                  std::int64_t(device["free"]));
  }
  EXPECT_EQ(std::uint64_t(plan["model"]["bytes"]), tiny_data_bytes());
  EXPECT_EQ(plan["estimate"]["stages"].error(), simdjson::SUCCESS);
  EXPECT_EQ(plan["estimate"]["hops"].error(), simdjson::SUCCESS);
  ASSERT_EQ(simdjson::dom::array(plan["needs"]).size(), 4u);
  EXPECT_EQ(std::string_view(plan["needs"].at(0)["dtype"]), "float32");
  EXPECT_EQ(std::uint64_t(plan["needs"].at(0)["total"]),
            4 * std::uint64_t(plan["model"]["parameters"]));
  EXPECT_GT(std::uint64_t(plan["needs"].at(1)["kv_cache_per_1000_tokens"]), 0u);
  std::uint64_t placed = 0;
  for (const simdjson::dom::element module : plan["placement"]) {
    placed += std::uint64_t(module["bytes"]);
  }
  EXPECT_EQ(weights, placed);
  EXPECT_GE(weights, tiny_data_bytes());
}

TEST(PlanCommand, PrintsTheDeviceMapAndNothingElse) {
  const TemporaryFolder folder;
  const Answer answer = berth({"plan", tiny_llama(folder, "m"), "--policy", "sequential",
                               "--max-memory", "0=3000,cpu=1GiB", "--print-device-map"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  EXPECT_TRUE(parsed(parser, answer.out).is_object());
  EXPECT_EQ(answer.talk, "");
}

TEST(PlanCommand, AcceptsItsOwnDeviceMap) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string map = folder.path() / "map.json";
  const Answer first = berth(
      {"plan", model, "--machine", machine_file(folder, "24GiB", "64GiB"), "--print-device-map"});
  folder.write("map.json", first.out);
  const Answer again = berth({"plan", model, "--machine", machine_file(folder, "24GiB", "64GiB"),
                              "--device-map", map, "--print-device-map"});
  EXPECT_EQ(again.exit_code, 0) << again.talk;
  EXPECT_EQ(first.out, again.out);
}

TEST(PlanCommand, DrawsToStdoutOrToAFile) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer answer = berth({"plan", model, "--max-memory", "cpu=1GiB", "--svg", "-"});
  EXPECT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_EQ(answer.out.rfind("<?xml", 0), 0u);
  const std::string file = folder.path() / "p.svg";
  const Answer both = berth({"plan", model, "--max-memory", "cpu=1GiB", "--svg", file});
  EXPECT_THAT(both.out, HasSubstr("DEVICE"));
  EXPECT_TRUE(std::filesystem::exists(file));
  const Answer lost =
      berth({"plan", model, "--max-memory", "cpu=1GiB", "--svg", folder.path() / "absent/p.svg"});
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_THAT(lost.talk, HasSubstr("absent/p.svg"));
}

TEST(PlanCommand, WritesThroughALinkAndKeepsIt) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::filesystem::path target = folder.write("pictures/old.svg", "old");
  for (const char* option : {"--svg", "--dot", "--save"}) {
    const std::filesystem::path link = folder.path() / (std::string("link") + option);
    std::filesystem::create_symlink("pictures/old.svg", link);
    folder.write("pictures/old.svg", "old");
    const Answer answer = berth({"plan", model, "--max-memory", "cpu=1GiB", option, link});
    EXPECT_EQ(answer.exit_code, 0) << answer.talk;
    EXPECT_TRUE(std::filesystem::is_symlink(link)) << option;
    EXPECT_GT(std::filesystem::file_size(target), 100u) << option;
  }
}

TEST(PlanCommand, WritesIntoADeviceAndDoesNotReplaceIt) {
  const TemporaryFolder folder;
  const std::filesystem::path link = folder.path() / "full";
  std::filesystem::create_symlink("/dev/full", link);
  const Answer answer =
      berth({"plan", tiny_llama(folder, "m"), "--max-memory", "cpu=1GiB", "--svg", link});
  EXPECT_EQ(answer.exit_code, 1);
  EXPECT_THAT(answer.talk, HasSubstr("full: cannot be written"));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_character_file(link));
}

TEST(PlanCommand, ComparesAllPoliciesSideBySide) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string machine = machine_file(folder, "24GiB", "64GiB");
  const Answer text = berth({"plan", model, "--machine", machine, "--compare"});
  EXPECT_EQ(text.exit_code, 0) << text.talk;
  for (const std::string_view policy : policy_names()) {
    EXPECT_THAT(text.out, HasSubstr("\n" + std::string(policy) + " "));
  }
  EXPECT_THAT(text.out, HasSubstr("\nauto: "));
  const Answer answer = berth({"plan", model, "--machine", machine, "--compare", "--json"});
  simdjson::dom::parser parser;
  const simdjson::dom::element rows = parsed(parser, answer.out)["compare"];
  ASSERT_EQ(simdjson::dom::array(rows).size(), policy_names().size());
  for (const simdjson::dom::element row : rows) {
    EXPECT_TRUE(bool(row["fits"]));
    EXPECT_GT(double(row["score_seconds"]), 0);
    EXPECT_EQ(std::uint64_t(row["weights"]["0"]), tiny_data_bytes());
    EXPECT_EQ(std::uint64_t(row["spilled"]["cpu"]), 0u);
  }
}

TEST(PlanCommand, ComparesTheGivenMapToo) {
  const TemporaryFolder folder;
  const Answer answer =
      berth({"plan", tiny_llama(folder, "m"), "--machine", machine_file(folder, "24GiB", "64GiB"),
             "--device-map", folder.write("map.json", R"({"": "cpu"})"), "--compare"});
  EXPECT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.out, HasSubstr("\ndevice map "));
}

TEST(PlanCommand, ShowsAPolicyThatCannotAnswerAndFailsWhereItWasAskedFor) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::vector<std::string> map{"plan",         model,
                                     "--max-memory", "cpu=1GiB",
                                     "--device-map", folder.write("map.json", R"({"": 5})"),
                                     "--compare"};
  const Answer answer = berth(map);
  EXPECT_EQ(answer.exit_code, 1);
  EXPECT_THAT(answer.out, HasSubstr("\nauto "));
  EXPECT_THAT(answer.talk, HasSubstr("there is no device '5'"));
}

TEST(PlanCommand, SpeaksToLlamaCppAndVllm) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string machine = machine_file(folder, "24GiB", "64GiB");
  const Answer llama =
      berth({"plan", model, "--machine", machine, "--context", "64", "--llama-cpp"});
  EXPECT_EQ(llama.exit_code, 0) << llama.talk;
  EXPECT_EQ(llama.out, "-ngl 3 -c 64\n");
  EXPECT_THAT(llama.talk, HasSubstr("note: "));
  const Answer vllm = berth({"plan", model, "--machine", machine, "--context", "64", "--vllm"});
  EXPECT_EQ(vllm.exit_code, 0) << vllm.talk;
  EXPECT_EQ(vllm.out, "VLLM_PP_LAYER_PARTITION=2 vllm serve " + model +
                          " --pipeline-parallel-size 1 --max-model-len 64\n");
}

TEST(PlanCommand, RefusesToTellVllmOfLayersOnTheCpu) {
  const TemporaryFolder folder;
  const Answer answer =
      berth({"plan", tiny_llama(folder, "m"), "--max-memory", "cpu=1GiB", "--vllm"});
  EXPECT_EQ(answer.exit_code, 1);
  EXPECT_EQ(answer.out, "");
  EXPECT_THAT(answer.talk, HasSubstr("2 of 2 layers have weights off the GPUs"));
  EXPECT_THAT(answer.talk, HasSubstr("; try --llama-cpp in place of --vllm\n"));
}

TEST(PlanCommand, GivesOtherToolsNothingThatDoesNotFit) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const std::string machine = machine_file(folder, "1GiB", "1GiB");
  for (const char* tool : {"--llama-cpp", "--vllm"}) {
    const Answer answer = berth(
        {"plan", model, "--machine", machine, "--context", "100000000", "--never-offload", tool});
    EXPECT_EQ(answer.exit_code, 2) << answer.talk;
    EXPECT_EQ(answer.out, "");
    const std::size_t at = answer.talk.find("try: --context ");
    ASSERT_NE(at, std::string::npos) << answer.talk;
    const std::string context = answer.talk.substr(at + 15, answer.talk.find('\n', at) - at - 15);
    const Answer tried =
        berth({"plan", model, "--machine", machine, "--context", context, "--never-offload", tool});
    EXPECT_EQ(tried.exit_code, 0) << tried.talk;
    EXPECT_THAT(tried.out, HasSubstr(context));
  }
}

TEST(PlanCommand, TakesWhatTransformersTakesInPlaceOfAMap) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const auto planned = [&](const std::vector<std::string>& how) {
    std::vector<std::string> call{"plan", model, "--max-memory", "0=3000,1=8000,cpu=1GiB",
                                  "--print-device-map"};
    call.insert(call.end(), how.begin(), how.end());
    const Answer answer = berth(call);
    return answer.exit_code == 1 ? answer.talk : answer.out;
  };
  EXPECT_EQ(planned({"--device-map", "auto"}), planned({"--policy", "balanced"}));
  EXPECT_EQ(planned({"--device-map", "sequential"}), planned({"--policy", "sequential"}));
  EXPECT_EQ(planned({"--device-map", "cuda:1"}), "{\n  \"\": 1\n}\n");
  EXPECT_EQ(planned({"--device-map", "0"}), "{\n  \"\": 0\n}\n");
  EXPECT_EQ(planned({"--device-map", "cpu"}), "{\n  \"\": \"cpu\"\n}\n");
  EXPECT_EQ(planned({"--device-map", folder.write("map.json", "\"cuda:1\"")}), "{\n  \"\": 1\n}\n");
  EXPECT_THAT(planned({"--device-map", "mps"}), HasSubstr("torch's device 'mps'"));
  EXPECT_THAT(planned({"--device-map", "fast"}), HasSubstr("fast"));
  const Answer json =
      berth({"plan", model, "--max-memory", "0=1GiB,cpu=1GiB", "--device-map", "auto", "--json"});
  EXPECT_THAT(json.out, HasSubstr("transformers places so as --policy balanced does"));
}

TEST(PlanCommand, LetsOneFlagHaveStdout) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  for (const std::vector<std::string>& flags : {std::vector<std::string>{"--dot", "-", "--json"},
                                                {"--compare", "--print-device-map"},
                                                {"--llama-cpp", "--vllm"},
                                                {"--compare", "--vllm"}}) {
    std::vector<std::string> call{"plan", model, "--max-memory", "cpu=1GiB"};
    call.insert(call.end(), flags.begin(), flags.end());
    const Answer answer = berth(call);
    EXPECT_EQ(answer.exit_code, 64);
    EXPECT_THAT(answer.talk, HasSubstr("both write to stdout"));
    EXPECT_EQ(answer.out, "");
  }
}

TEST(PlanCommand, WritesDotToStdoutOrToAFile) {
  const TemporaryFolder folder;
  const std::string model = tiny_llama(folder, "m");
  const Answer answer = berth({"plan", model, "--max-memory", "cpu=1GiB", "--dot", "-"});
  EXPECT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_EQ(answer.out.rfind("digraph", 0), 0u);
  const std::string file = folder.path() / "g.dot";
  const Answer both = berth({"plan", model, "--max-memory", "cpu=1GiB", "--dot", file});
  EXPECT_THAT(both.out, HasSubstr("DEVICE"));
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(PlanCommand, PlansFromADeploymentFileWithFlagsOnTop) {
  const TemporaryFolder folder;
  tiny_llama(folder, "models/m");
  const std::string deployment = folder.write("deployments/d.yaml",
                                              "model: ../models/m\n"
                                              "machine:\n"
                                              "  devices:\n"
                                              "    - {name: \"0\", kind: cuda, capacity: 24GiB}\n"
                                              "    - {name: cpu, kind: cpu, capacity: 64GiB}\n"
                                              "overrides:\n"
                                              "  - {match: \"model.layers.1\", device: cpu}\n");
  const Answer answer = berth({"plan", deployment, "--print-device-map"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  EXPECT_THAT(answer.out, HasSubstr("\"cpu\""));
  const Answer excluded = berth({"plan", deployment, "--exclude", "cpu", "--print-device-map"});
  EXPECT_NE(excluded.exit_code, 0) << "an override to an excluded device cannot be honoured";
}

TEST(PlanCommand, PrintsNoEscapesAndNoCarriageReturnsIntoAPipe) {
  const TemporaryFolder folder;
  const Answer answer = berth({"plan", tiny_llama(folder, "m"), "--max-memory", "cpu=1GiB"});
  EXPECT_THAT(answer.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(answer.out, Not(HasSubstr("\r")));
}

TEST(PlanCommand, PlansFromConfigAlone) {
  const TemporaryFolder folder;
  const Answer answer = berth(
      {"plan", folder.write("config.json", tiny_config()), "--json", "--max-memory", "cpu=1GiB"});
  ASSERT_EQ(answer.exit_code, 0) << answer.talk;
  simdjson::dom::parser parser;
  EXPECT_EQ(std::uint64_t(parsed(parser, answer.out)["model"]["bytes"]), tiny_data_bytes());
}

TEST(PlanCommand, SaysTheSameTwice) {
  const TemporaryFolder folder;
  const std::vector<std::string> call{"plan", tiny_llama(folder, "m"), "--json", "--machine",
                                      machine_file(folder, "24GiB", "64GiB")};
  EXPECT_EQ(berth(call).out, berth(call).out);
}

}  // namespace
}  // namespace berth::testing

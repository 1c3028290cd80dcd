// Every broken input ends in one error line that names the place, exit 1, and no stray file.

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <set>

#include "tests/cli/berth_process.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::set<std::string> files_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    names.insert(entry.path());
  }
  return names;
}

// A broken input: `make` writes it and returns the arguments to call berth with.
struct Broken {
  const char* what;
  std::function<std::vector<std::string>(const TemporaryFolder&)> make;
  const char* named;  // what the error must name
  int exit_code = 1;
};

std::vector<std::string> plan(const std::filesystem::path& model) { return {"plan", model}; }

// tiny_llama with its header changed.
std::vector<std::string> with_header(const TemporaryFolder& folder, const std::string& from,
                                     const std::string& to) {
  std::string header = tiny_header();
  header.replace(header.find(from), from.size(), to);
  folder.write("m/config.json", tiny_config());
  folder.write("m/model.safetensors", safetensors(header, tiny_data_bytes()));
  return plan(folder.path() / "m");
}

std::filesystem::path make_pipe(const TemporaryFolder& folder, const std::string& name) {
  const std::filesystem::path path = folder.path() / name;
  EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
  return path;
}

class BadInput : public ::testing::TestWithParam<Broken> {};

TEST_P(BadInput, IsOneErrorLineAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  const std::vector<std::string> arguments = GetParam().make(folder);
  const std::set<std::string> before = files_in(folder.path());
  const Answer answer = berth(arguments);
  EXPECT_EQ(answer.exit_code, GetParam().exit_code) << answer.talk;
  EXPECT_EQ(answer.out, "");
  EXPECT_THAT(answer.talk, StartsWith("error: "));
  EXPECT_EQ(std::count(answer.talk.begin(), answer.talk.end(), '\n'), 1) << answer.talk;
  EXPECT_THAT(answer.talk, HasSubstr(GetParam().named));
  EXPECT_EQ(files_in(folder.path()), before);
}

const Broken kBroken[] = {
    {"NoSuchModel", [](const auto& f) { return plan(f.path() / "absent"); }, "absent"},
    {"TruncatedShard",
     [](const auto& f) {
       tiny_llama(f, "m");
       std::filesystem::resize_file(f.path() / "m/model.safetensors", 500);
       return plan(f.path() / "m");
     },
     "model.safetensors"},
    {"HeaderPastTheFile",
     [](const auto& f) {
       f.write("m/config.json", tiny_config());
       f.write("m/model.safetensors", std::string("\xFF\xFF\x00\x00\x00\x00\x00\x00{}", 10));
       return plan(f.path() / "m");
     },
     "model.safetensors"},
    {"HeaderPastTheLimit",
     [](const auto& f) {
       f.write("m/config.json", tiny_config());
       f.write("m/model.safetensors", std::string(7, '\xFF') + "\x7F{}");
       return plan(f.path() / "m");
     },
     "model.safetensors"},
    {"OverlappingRanges",
     [](const auto& f) {
       return with_header(f, "\"data_offsets\":[1024,", "\"data_offsets\":[1020,");
     },
     "model.safetensors"},
    {"OverflowingShape",
     [](const auto& f) {
       return with_header(f, "\"shape\":[32,8]", "\"shape\":[4294967296,4294967296,4294967296]");
     },
     "embed_tokens"},
    {"UnknownDtype", [](const auto& f) { return with_header(f, "\"F32\"", "\"F33\""); }, "F33"},
    {"MissingShard",
     [](const auto& f) {
       f.write("m/config.json", tiny_config());
       f.write("m/model.safetensors.index.json",
               R"({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}})");
       return plan(f.path() / "m");
     },
     "model-00001-of-00002.safetensors"},
    {"FolderWithoutConfig",
     [](const auto& f) {
       f.write("m/notes.txt", "no model here");
       return plan(f.path() / "m");
     },
     "m"},
    {"ConfigThatIsNoJson",
     [](const auto& f) {
       tiny_llama(f, "m");
       f.write("m/config.json", "{\"model_type\": ");
       return plan(f.path() / "m");
     },
     "config.json"},
    {"InvalidYaml",
     [](const auto& f) { return plan(f.write("deploy.yaml", "model: m\npolicy: [auto\n")); },
     "deploy.yaml:"},
    // Pipes that nobody writes to: berth must say so, and not wait.
    {"DeploymentFileThatIsAPipe", [](const auto& f) { return plan(make_pipe(f, "deploy.yaml")); },
     "deploy.yaml: is a pipe, which is not a regular file"},
    {"DeviceMapThatIsAPipe",
     [](const auto& f) {
       return std::vector<std::string>{"plan", tiny_llama(f, "m"), "--device-map",
                                       make_pipe(f, "map.json")};
     },
     "map.json: is a pipe, which is not a regular file"},
    {"MachineFileThatIsAPipe",
     [](const auto& f) {
       return std::vector<std::string>{"plan", tiny_llama(f, "m"), "--machine",
                                       make_pipe(f, "rig.yaml")};
     },
     "rig.yaml: is a pipe, which is not a regular file"},
    {"PlanFileThatIsAPipe",
     [](const auto& f) {
       return std::vector<std::string>{"load", tiny_llama(f, "m"), "--plan",
                                       make_pipe(f, "plan.json")};
     },
     "plan.json: is a pipe, which is not a regular file"},
    {"ChecksumFileThatIsAPipe",
     [](const auto& f) {
       return std::vector<std::string>{"load",     tiny_llama(f, "m"), "--max-memory",
                                       "cpu=1GiB", "--checksums",      make_pipe(f, "sums.json")};
     },
     "sums.json: is a pipe, which is not a regular file"},
    {"ImpossibleSize",
     [](const auto& f) {
       return plan(f.write("deploy.yaml", "model: m\nmax_memory: {0: 80GBs}\n"));
     },
     "deploy.yaml:2: max_memory.0: '80GBs'"},
    {"ImpossibleSizeInAFlag",
     [](const auto& f) {
       return std::vector<std::string>{"plan", tiny_llama(f, "m"), "--max-memory", "0=-5GiB"};
     },
     "--max-memory", 64},
    {"MachineFileWithAnUnknownKey",
     [](const auto& f) {
       return std::vector<std::string>{
           "plan", tiny_llama(f, "m"), "--machine",
           f.write("rig.yaml", "devices:\n  - {name: cpu, kind: cpu, capcity: 1GiB}\n")};
     },
     "rig.yaml:2: devices[0].capcity"},
    {"TensorTheModelNeedsIsMissing",
     [](const auto& f) {
       return with_header(f, "\"model.layers.1.mlp.up_proj.weight\"", "\"somewhere.else.weight\"");
     },
     "model.layers.1.mlp.up_proj.weight"},
    {"PartOfAWeightThatIsNotKnown",
     [](const auto& f) {
       std::string header = tiny_header();
       header.insert(1, R"("model.layers.0.mlp.up_proj.codebook":)"
                        R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]},)");
       f.write("m/config.json", tiny_config());
       f.write("m/model.safetensors", safetensors(header, tiny_data_bytes()));
       return plan(f.path() / "m");
     },
     "up_proj.codebook"},
    {"DeviceMapWithAnUnknownModule",
     [](const auto& f) {
       return std::vector<std::string>{"plan", tiny_llama(f, "m"), "--device-map",
                                       f.write("map.json", R"({"model.nowhere": 0})")};
     },
     "model."},
    {"DeviceMapThatIsNoJson",
     [](const auto& f) {
       return std::vector<std::string>{"plan", tiny_llama(f, "m"), "--device-map",
                                       f.write("map.json", "{")};
     },
     "map.json"},
    {"OverrideToADeviceThatIsNotThere",
     [](const auto& f) {
       tiny_llama(f, "m");
       return plan(f.write("deploy.yaml",
                           "model: m\nmax_memory: {0: 1GiB, cpu: 1GiB}\n"
                           "overrides: [{match: lm_head, device: 7}]\n"));
     },
     "7"},
    {"OverrideFlagThatMatchesNothing",
     [](const auto& f) {
       return std::vector<std::string>{"plan",         tiny_llama(f, "m"),
                                       "--max-memory", "0=1GiB,cpu=1GiB",
                                       "--override",   "model.nowhere.*=cpu"};
     },
     "model.nowhere.*"},
    {"PriorityOfADeviceThatIsNotThere",
     [](const auto& f) {
       return std::vector<std::string>{
           "plan", tiny_llama(f, "m"), "--max-memory", "0=1GiB,cpu=1GiB", "--priority", "7=1"};
     },
     "priority: device '7'"},
    {"NoSplitThatMatchesNothing",
     [](const auto& f) {
       return std::vector<std::string>{
           "plan", tiny_llama(f, "m"), "--max-memory", "0=1GiB,cpu=1GiB", "--no-split", "OtherMLP"};
     },
     "no_split 'OtherMLP': matches no module and no class"},
    {"DeviceThatIsNotHere",
     [](const auto& f) {
       const std::string machine = f.write("far.yaml",
                                           "devices:\n"
                                           "  - {name: \"77\", kind: cuda, capacity: 24GiB}\n"
                                           "  - {name: cpu, kind: cpu, capacity: 1GiB}\n");
       return std::vector<std::string>{"load", tiny_llama(f, "m"), "--machine", machine};
     },
     "77"},
    {"ConfigCannotBeLoaded",
     [](const auto& f) {
       return std::vector<std::string>{"load", f.write("config.json", tiny_config())};
     },
     "config.json"},
    {"AFolderWithAConfigAloneCannotBeLoaded",
     [](const auto& f) {
       f.write("config.json", tiny_config());
       return std::vector<std::string>{"load", f.path()};
     },
     "describes a model without its weights: it can be planned, not loaded"},
    {"ConfigCannotBeConverted",
     [](const auto& f) {
       return std::vector<std::string>{"convert", f.write("config.json", tiny_config()),
                                       f.path() / "out"};
     },
     "describes a model without its weights"},
    {"PlanForAnotherModel",
     [](const auto& f) {
       const std::string saved = f.path() / "plan.json";
       tiny_llama(f, "other");
       berth({"plan", f.path() / "other", "--save", saved, "--max-memory", "cpu=1GiB"});
       return std::vector<std::string>{"load", tiny_llama(f, "m"), "--plan", saved};
     },
     "plan.json: a plan for another model"},
    {"PlanOfAnotherVersion",
     [](const auto& f) {
       return std::vector<std::string>{"load", tiny_llama(f, "m"), "--plan",
                                       f.write("plan.json", "{\"plan_version\": 2}")};
     },
     "plan.json: was saved as plan version 2; this Berth reads version 1"},
    {"PlanThatIsNone",
     [](const auto& f) {
       return std::vector<std::string>{"load", tiny_llama(f, "m"), "--plan",
                                       f.write("plan.json", "{\"model\": 3}")};
     },
     "plan.json"},
    {"MemoryThatShrankSinceThePlan",
     [](const auto& f) {
       const std::string model = tiny_llama(f, "m");
       const std::string saved = f.path() / "plan.json";
       const std::string machine = machine_file(f, "1GiB", "900TiB");
       // Planned for a CPU of 900 TiB, with a KV cache that no machine has space for today.
       berth({"plan", model, "--machine", machine, "--exclude", "0", "--save", saved, "--context",
              "100000000", "--batch", "10000"});
       return std::vector<std::string>{"load", model, "--plan", saved};
     },
     "the plan no longer fits"},
    {"SaveIntoAFolderThatIsNotThere",
     [](const auto& f) {
       return std::vector<std::string>{"plan",         tiny_llama(f, "m"),
                                       "--max-memory", "cpu=1GiB",
                                       "--save",       f.path() / "absent/plan.json"};
     },
     "absent/plan.json"},
    {"NoArguments", [](const auto&) { return std::vector<std::string>{}; }, "plan, load or run",
     64},
    {"UnknownFlag",
     [](const auto& f) {
       return std::vector<std::string>{"plan", f.path(), "--fast"};
     },
     "--fast", 64},
    {"RunWithoutAPrompt",
     [](const auto& f) {
       return std::vector<std::string>{"run", tiny_llama(f, "m")};
     },
     "--prompt", 64},
};

INSTANTIATE_TEST_SUITE_P(Each, BadInput, ::testing::ValuesIn(kBroken),
                         [](const auto& broken) { return std::string(broken.param.what); });

}  // namespace
}  // namespace berth::testing

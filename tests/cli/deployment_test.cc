#include "cli/options/deployment.h"

#include <gmock/gmock.h>

#include "berth/error.h"
#include "tests/cli/temporary_folder.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Deployment parse(const std::string& text) {
  return parse_deployment(parse_yaml(text, "deploy.yaml"), "deployments");
}

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Deployment, ReadsEverythingThatFlagsCanSay) {
  const Deployment deployment = parse(R"(
model: ../models/demo
policy: sequential
machine: 2x4090
max_memory: {1: 2GiB, 0: 1GiB, cpu: 64GiB}
dtype: float32
dequantize: true
cpu_memory: private
prefault: true
io: direct
staging: 64MiB
emulate: true
reserve: {0: 512MiB}
exclude: [1, disk]
never_offload: false
priority: {2: -1, cuda:0: 3}
no_split: [LlamaMLP, "model.h.[0-3]"]
overrides:
  - {match: "model.layers.2?.*", device: cpu}
  - {match: lm_head, device: cuda:0}
workload: {batch: 2, context: 8192, prompt_tokens: 100, new_tokens: 0, kv_dtype: float16}
run: {prompt: "Once upon a time", n: 5, logits: out.safetensors, stop_at_eos: true}
)");
  const Settings& settings = deployment.settings;
  EXPECT_EQ(deployment.model, "models/demo");
  EXPECT_EQ(settings.policy, Policy::kSequential);
  EXPECT_EQ(std::get<std::filesystem::path>(*settings.machine), "2x4090");
  ASSERT_EQ(settings.max_memory->size(), 3u);
  EXPECT_EQ(settings.max_memory->at(0).device, "1");  // in the order of the file
  EXPECT_EQ(settings.max_memory->at(0).bytes, 2ull << 30);
  EXPECT_EQ(settings.max_memory->at(2).device, "cpu");
  EXPECT_EQ(settings.dtype->dtype, DType::kF32);
  EXPECT_EQ(settings.dequantize, true);
  EXPECT_EQ(settings.cpu_memory, CpuMemory::kPrivate);
  EXPECT_EQ(settings.prefault, true);
  EXPECT_EQ(settings.io, IoEngine::kDirect);
  EXPECT_EQ(settings.staging, 64ull << 20);
  EXPECT_EQ(settings.emulate, true);
  EXPECT_EQ(settings.reserve->at(0).device, "0");
  EXPECT_EQ(*settings.excluded, (std::vector<std::string>{"1", "disk"}));
  EXPECT_EQ(settings.never_offload, false);
  ASSERT_EQ(settings.priority->size(), 2u);
  EXPECT_EQ(settings.priority->at(0).device, "2");
  EXPECT_EQ(settings.priority->at(0).level, -1);
  EXPECT_EQ(settings.priority->at(1).device, "0");
  EXPECT_EQ(*settings.no_split, (std::vector<std::string>{"LlamaMLP", "model.h.[0-3]"}));
  ASSERT_EQ(settings.overrides->size(), 2u);
  EXPECT_EQ(settings.overrides->at(0).match, "model.layers.2?.*");
  EXPECT_EQ(settings.overrides->at(1).device, "0");
  EXPECT_EQ(settings.batch, 2u);
  EXPECT_EQ(settings.context, 8192u);
  EXPECT_EQ(settings.prompt_tokens, 100u);
  EXPECT_EQ(settings.new_tokens, 0u);
  EXPECT_EQ(settings.kv_dtype, DType::kF16);
  EXPECT_EQ(settings.prompts, std::vector<std::string>{"Once upon a time"});
  EXPECT_EQ(settings.tokens, 5u);
  EXPECT_EQ(settings.logits, "deployments/out.safetensors");
  EXPECT_EQ(settings.stop_at_eos, true);
}

TEST(Deployment, NeedsOnlyAModelAndLeavesTheRestUnsaid) {
  const Deployment deployment = parse("model: /models/demo\n");
  EXPECT_EQ(deployment.model, "/models/demo");
  EXPECT_FALSE(deployment.settings.policy);
  EXPECT_FALSE(deployment.settings.batch);
  EXPECT_FALSE(deployment.settings.emulate);
}

TEST(Deployment, ReadsCountsAndKvDtypesAsFlagsDo) {
  const Settings settings =
      parse("model: m\nworkload: {context: 128k, new_tokens: 1K, kv_dtype: q8_0}\n").settings;
  EXPECT_EQ(settings.context, 131072u);
  EXPECT_EQ(settings.new_tokens, 1024u);
  EXPECT_EQ(settings.kv_dtype, DType::kQ8_0);
  EXPECT_EQ(error_of("model: m\nworkload: {context: 128kb}\n"),
            "deploy.yaml:2: workload.context: '128kb' is not a whole number from 0 to 1000000000 "
            "(128k is 131072)");
}

TEST(Deployment, TakesAMachineByNameByFileOrInline) {
  const auto path = [](const std::string& text) {
    return std::get<std::filesystem::path>(*parse("model: m\nmachine: " + text).settings.machine);
  };
  EXPECT_EQ(path("h200"), "h200");
  EXPECT_EQ(path("rig.yaml"), "deployments/rig.yaml");
  EXPECT_EQ(path("../hardware/rig"), "hardware/rig");
  const Deployment inline_one = parse(
      "model: m\n"
      "machine:\n"
      "  devices:\n"
      "    - {name: 0, kind: cuda, capacity: 24GiB}\n"
      "    - {name: cpu, kind: cpu, capacity: 64GiB}\n");
  const Machine& machine = std::get<Machine>(*inline_one.settings.machine);
  ASSERT_EQ(machine.devices.size(), 2u);
  EXPECT_EQ(machine.devices[0].capacity, 24ull << 30);
}

TEST(Deployment, TakesADeviceMapAsAFileOrInline) {
  EXPECT_EQ(std::get<std::filesystem::path>(
                *parse("model: m\ndevice_map: map.json\n").settings.device_map),
            "deployments/map.json");
  const Deployment whole = parse("model: m\ndevice_map: cuda:1\n");
  EXPECT_EQ(std::get<DeviceMap>(*whole.settings.device_map).at(0).device, "1");
  const Deployment policy = parse("model: m\ndevice_map: auto\n");
  EXPECT_EQ(std::get<DeviceMap>(*policy.settings.device_map).at(0).device, "auto");
  const Deployment inline_one = parse("model: m\ndevice_map: {model.embed: 0, \"\": cpu}\n");
  const DeviceMap& map = std::get<DeviceMap>(*inline_one.settings.device_map);
  ASSERT_EQ(map.size(), 2u);
  EXPECT_EQ(map[0].module, "model.embed");
  EXPECT_EQ(map[0].device, "0");
  EXPECT_EQ(map[1].module, "");
  EXPECT_EQ(map[1].device, "cpu");
}

TEST(Deployment, HintsAtTheKeyThatWasMeant) {
  EXPECT_EQ(error_of("model: m\npolcy: auto\n"),
            "deploy.yaml:2: polcy: unknown key (did you mean 'policy'?)");
  EXPECT_EQ(error_of("model: m\nworkload:\n  bach: 2\n"),
            "deploy.yaml:3: workload.bach: unknown key (did you mean 'batch'?)");
  EXPECT_EQ(error_of("model: m\noverrides:\n  - {match: a, device: cpu}\n  - {mach: b}\n")
                .rfind("deploy.yaml:4: overrides[1]", 0),
            0u);
  EXPECT_THAT(error_of("modle: m\n"), StartsWith("deploy.yaml:1: modle: unknown key"));
}

struct Mistake {
  const char* what;
  const char* text;
  const char* error;
};

class DeploymentMistakes : public ::testing::TestWithParam<Mistake> {};

TEST_P(DeploymentMistakes, AreErrorsThatNameFileLineAndField) {
  EXPECT_THAT(error_of(GetParam().text), StartsWith(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Each, DeploymentMistakes,
    ::testing::Values(
        Mistake{"NoModel", "policy: auto\n", "deploy.yaml:1: "},
        Mistake{"EmptyModel", "policy: auto\nmodel: ''\n", "deploy.yaml:2: model: "},
        Mistake{"NestedDeployment", "model: other.yaml\n", "deploy.yaml:1: model: "},
        Mistake{"ModelIsAList", "model: [a]\n", "deploy.yaml:1: model: "},
        Mistake{"Policy", "model: m\npolicy: balancd\n",
                "deploy.yaml:2: policy: 'balancd' is not a policy (did you mean 'balanced'?)"},
        Mistake{"DeviceMapAsPolicy", "model: m\npolicy: device_map\n", "deploy.yaml:2: policy: "},
        Mistake{"PolicyAndMap", "model: m\npolicy: auto\ndevice_map: m.json\n",
                "deploy.yaml:3: device_map: "},
        Mistake{"Size", "model: m\nmax_memory:\n  0: 80GBs\n",
                "deploy.yaml:3: max_memory.0: '80GBs' is not a size"},
        Mistake{"NegativeSize", "model: m\nstaging: -1\n", "deploy.yaml:2: staging: "},
        Mistake{
            "StagingTooSmall", "model: m\nstaging: 64KiB\n",
            "deploy.yaml:2: staging: '64KiB' is too small to load anything (at least 256.0 KiB)"},
        Mistake{"Device", "model: m\nmax_memory:\n  gpu0: 1GiB\n",
                "deploy.yaml:3: max_memory.gpu0: 'gpu0' is not a device"},
        Mistake{"DeviceTwice", "model: m\nmax_memory:\n  0: 1GiB\n  0: 2GiB\n",
                "deploy.yaml:4: max_memory.0: "},
        Mistake{"DeviceTwiceSpelledApart", "model: m\nmax_memory:\n  0: 1GiB\n  cuda:0: 2GiB\n",
                "deploy.yaml:4: max_memory.cuda:0: "},
        Mistake{"BudgetsAreAList", "model: m\nmax_memory: [1GiB]\n", "deploy.yaml:2: max_memory: "},
        Mistake{"Dtype", "model: m\ndtype: bf16\n", "deploy.yaml:2: dtype: 'bf16' is not a dtype"},
        Mistake{"CpuMemory", "model: m\ncpu_memory: swap\n", "deploy.yaml:2: cpu_memory: "},
        Mistake{"Io", "model: m\nio: fast\n", "deploy.yaml:2: io: 'fast' is not a read engine"},
        Mistake{"Boolean", "model: m\nemulate: maybe\n", "deploy.yaml:2: emulate: "},
        Mistake{"BatchZero", "model: m\nworkload:\n  batch: 0\n",
                "deploy.yaml:3: workload.batch: 0 is out of range"},
        Mistake{"ContextIsText", "model: m\nworkload: {context: long}\n",
                "deploy.yaml:2: workload.context: "},
        Mistake{"ContextTooLong", "model: m\nworkload: {context: 99999999999}\n",
                "deploy.yaml:2: workload.context: "},
        Mistake{"OverridesAreAMapping", "model: m\noverrides: {a: cpu}\n",
                "deploy.yaml:2: overrides: "},
        Mistake{"OverrideWithoutDevice", "model: m\noverrides:\n  - match: a\n",
                "deploy.yaml:3: overrides[0]: 'device' is missing"},
        Mistake{"OverrideWithoutPattern", "model: m\noverrides:\n  - {match: '', device: 0}\n",
                "deploy.yaml:3: overrides[0].match: "},
        Mistake{"OverrideToNowhere", "model: m\noverrides:\n  - {match: a, device: tpu}\n",
                "deploy.yaml:3: overrides[0].device: 'tpu' is not a device"},
        Mistake{"OverrideWithAnOpenBracket",
                "model: m\noverrides:\n  - {match: 'a[b', device: 0}\n",
                "deploy.yaml:3: overrides[0].match: 'a[b' has a [ without its ]"},
        Mistake{"PriorityIsANumber", "model: m\npriority: 1\n", "deploy.yaml:2: priority: "},
        Mistake{"PriorityOfTheCpu", "model: m\npriority:\n  cpu: 1\n",
                "deploy.yaml:3: priority.cpu: 'cpu' is not a GPU"},
        Mistake{"PriorityIsAWord", "model: m\npriority: {0: high}\n",
                "deploy.yaml:2: priority.0: 'high' is not a level"},
        Mistake{"PriorityTwice", "model: m\npriority:\n  0: 1\n  cuda:0: 2\n",
                "deploy.yaml:4: priority.cuda:0: "},
        Mistake{"NoSplitIsText", "model: m\nno_split: LlamaMLP\n", "deploy.yaml:2: no_split: "},
        Mistake{"NoSplitIsEmpty", "model: m\nno_split: ['']\n",
                "deploy.yaml:2: no_split[0]: an empty pattern"},
        Mistake{"TwoPrompts", "model: m\nrun:\n  prompt: a\n  prompt_ids: [1]\n",
                "deploy.yaml:4: run.prompt_ids: "},
        Mistake{"NegativeId", "model: m\nrun: {prompt_ids: [1, -2]}\n",
                "deploy.yaml:2: run.prompt_ids[1]: "},
        Mistake{"MachineDevice", "model: m\nmachine:\n  devices:\n    - {name: 0, capcity: 1GiB}\n",
                "deploy.yaml:4: machine.devices[0]"},
        Mistake{"NotAMapping", "- model\n", "deploy.yaml:1: "},
        Mistake{"Syntax", "model: m\n  bad: [\n", "deploy.yaml:"}),
    [](const auto& mistake) { return std::string(mistake.param.what); });

TEST(Deployment, ResolvesPathsAgainstItsOwnFolder) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("a/b/deploy.yaml", "model: ../../models/m\n");
  EXPECT_EQ(read_deployment(file).model, folder.path() / "models/m");
}

}  // namespace
}  // namespace berth

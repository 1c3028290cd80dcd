#include "cli/options/command_line.h"

#include <gmock/gmock.h>

#include "berth/error.h"
#include "tests/cli/temporary_folder.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

CommandLine parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "berth");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

Options options_of(std::vector<const char*> arguments) {
  return *parse(std::move(arguments)).options;
}

template <typename Expected>
std::string error_of(std::vector<const char*> arguments) {
  try {
    parse(std::move(arguments));
  } catch (const UsageError& error) {
    return std::is_same_v<Expected, UsageError> ? error.what() : "a usage error";
  } catch (const Error& error) {
    return std::is_same_v<Expected, Error> ? error.what() : "an error of the input";
  }
  return "no error";
}

TEST(Options, ReadEveryFlagOfPlan) {
  const Options options = options_of({"plan",
                                      "m",
                                      "--max-memory",
                                      "1=2GiB,0=1024,cpu=1GB",
                                      "--machine",
                                      "2x4090",
                                      "--dtype",
                                      "float16",
                                      "--batch",
                                      "2",
                                      "--context",
                                      "100",
                                      "--prompt-tokens",
                                      "10",
                                      "--new-tokens",
                                      "0",
                                      "--kv-dtype",
                                      "float32",
                                      "--exclude",
                                      "1,disk",
                                      "--never-offload",
                                      "--reserve",
                                      "1GiB",
                                      "--policy",
                                      "sequential",
                                      "--json",
                                      "--save",
                                      "p.json"});
  EXPECT_EQ(options.command, Command::kPlan);
  EXPECT_EQ(options.model, "m");
  const Settings& settings = options.settings;
  ASSERT_EQ(settings.max_memory->size(), 3u);
  EXPECT_EQ(settings.max_memory->at(0).device, "1");
  EXPECT_EQ(settings.max_memory->at(1).bytes, 1024u);
  EXPECT_EQ(settings.max_memory->at(2).bytes, 1000000000u);
  EXPECT_EQ(settings.policy, Policy::kSequential);
  EXPECT_EQ(settings.dtype->dtype, DType::kF16);
  EXPECT_EQ(settings.batch, 2u);
  EXPECT_EQ(settings.new_tokens, 0u);
  EXPECT_EQ(settings.kv_dtype, DType::kF32);
  EXPECT_EQ(*settings.excluded, (std::vector<std::string>{"1", "disk"}));
  EXPECT_EQ(settings.reserve->at(0).device, "");
  EXPECT_TRUE(options.json);
  EXPECT_EQ(options.save, "p.json");
}

TEST(Options, ReadPrioritiesNoSplitAndOverrides) {
  const Settings settings =
      options_of({"plan", "m", "--priority", "2=-1, cuda:0=1", "--no-split", "LlamaMLP,model.h.?",
                  "--override", "model.layers.2?.*=cpu", "--override", "a=b=gpu 1"})
          .settings;
  ASSERT_EQ(settings.priority->size(), 2u);
  EXPECT_EQ(settings.priority->at(0).device, "2");
  EXPECT_EQ(settings.priority->at(0).level, -1);
  EXPECT_EQ(settings.priority->at(1).device, "0");
  EXPECT_EQ(settings.priority->at(1).level, 1);
  EXPECT_EQ(*settings.no_split, (std::vector<std::string>{"LlamaMLP", "model.h.?"}));
  ASSERT_EQ(settings.overrides->size(), 2u);
  EXPECT_EQ(settings.overrides->at(0).match, "model.layers.2?.*");
  EXPECT_EQ(settings.overrides->at(0).device, "cpu");
  EXPECT_EQ(settings.overrides->at(1).match, "a=b") << "the device stands behind the last =";
  EXPECT_EQ(settings.overrides->at(1).device, "1");
}

TEST(Options, LeaveTheModelAloneBehindAFlagThatRepeats) {
  const Options options = options_of({"plan", "--override", "lm_head=cpu", "the-model"});
  EXPECT_EQ(options.model, "the-model");
  EXPECT_EQ(options.settings.overrides->size(), 1u);
}

TEST(Options, RefusePrioritiesAndPatternsThatMeanNothing) {
  const auto error = [](const char* flag, const char* value) {
    return error_of<UsageError>({"plan", "m", flag, value});
  };
  EXPECT_THAT(error("--priority", "2"), HasSubstr("--priority: '2' is not DEVICE=LEVEL"));
  EXPECT_THAT(error("--priority", "2=high"), HasSubstr("--priority: 'high' is not a level"));
  EXPECT_THAT(error("--priority", "2=1.5"), HasSubstr("--priority: '1.5' is not a level"));
  EXPECT_THAT(error("--priority", "2=99999999999"), HasSubstr("is not a level"));
  EXPECT_THAT(error("--priority", "2=1,gpu 2=0"), HasSubstr("device '2' is given twice"));
  EXPECT_THAT(error("--priority", "cpu=1"), HasSubstr("--priority: 'cpu' is not a GPU"));
  EXPECT_THAT(error("--no-split", "a,,b"), HasSubstr("--no-split: an empty pattern"));
  EXPECT_THAT(error("--no-split", "[ab"), HasSubstr("--no-split: '[ab' has a [ without its ]"));
  EXPECT_THAT(error("--override", "lm_head"), HasSubstr("--override: 'lm_head' is not PATTERN="));
  EXPECT_THAT(error("--override", "=cpu"), HasSubstr("--override: an empty pattern"));
  EXPECT_THAT(error("--override", "lm_head=tpu"), HasSubstr("--override: 'tpu' is not a device"));
}

TEST(Options, TakeAPromptAsItIs) {
  for (const char* prompt : {"", " ", "-x", "--json", "[1]", "%%", "a,b", "\"q\"", "\u00e9"}) {
    EXPECT_EQ(options_of({"run", "m", "--prompt", prompt}).settings.prompts,
              std::vector<std::string>{prompt});
  }
}

TEST(Options, ReadPromptIdsAndCounts) {
  const Options options = options_of({"run", "m", "--prompt-ids", "504,3575, 282", "-n", "0"});
  EXPECT_EQ(*options.settings.prompt_ids,
            (std::vector<std::vector<std::int64_t>>{{504, 3575, 282}}));
  EXPECT_EQ(options.settings.tokens, 0u);
}

TEST(Options, CountsMayBeInThousandsOfTokens) {
  const auto context = [](const char* text) {
    return *options_of({"plan", "m", "--context", text}).settings.context;
  };
  EXPECT_EQ(context("128k"), 131072u);
  EXPECT_EQ(context("128K"), 131072u);
  EXPECT_EQ(context("1m"), 1048576u);
  EXPECT_EQ(context("131072"), 131072u);
  const Settings settings =
      options_of({"plan", "m", "--prompt-tokens", "32k", "--new-tokens", "2k"}).settings;
  EXPECT_EQ(settings.prompt_tokens, 32768u);
  EXPECT_EQ(settings.new_tokens, 2048u);
  for (const char* text : {"k", "1.5k", "128kb", "128 k", "k128", "0k", "9999999k", "-1k"}) {
    EXPECT_THAT(error_of<UsageError>({"plan", "m", "--context", text}), StartsWith("--context:"))
        << text;
  }
}

TEST(Options, KvDtypesHaveTheNamesOfTheTools) {
  const auto dtype = [](const char* text) {
    return *options_of({"plan", "m", "--kv-dtype", text}).settings.kv_dtype;
  };
  EXPECT_EQ(dtype("q8_0"), DType::kQ8_0);
  EXPECT_EQ(dtype("iq4_nl"), DType::kIQ4_NL);
  EXPECT_EQ(dtype("fp8"), DType::kF8E4M3);
  EXPECT_EQ(dtype("fp8_e5m2"), DType::kF8E5M2);
  EXPECT_EQ(dtype("int8"), DType::kI8);
  EXPECT_EQ(dtype("f16"), DType::kF16);
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--kv-dtype", "q8_1"}),
              HasSubstr("'q8_1' is not a dtype of the KV cache (did you mean 'q8_0'?)"));
}

TEST(Options, BadValuesOfFlagsAreBadCalls) {
  const std::vector<std::pair<const char*, const char*>> bad = {
      {"--staging", "abc"},    {"--staging", "-1"},   {"--staging", "64KiB"},
      {"--max-memory", "foo"}, {"--max-memory", "0"}, {"--override", "model.layers.1"},
      {"--priority", "0=x"},   {"--exclude", "gpu"},  {"--reserve", "much"},
      {"--no-split", "a["},    {"--io", "foo"},       {"--kv-dtype", "int3"},
  };
  for (const auto& [flag, value] : bad) {
    EXPECT_THAT(error_of<UsageError>({"load", "m", flag, value}),
                StartsWith(std::string(flag) + ": '"));
  }
  for (const char* command : {"convert", "checksum"}) {
    EXPECT_THAT(error_of<UsageError>({command, "in", "--staging", "much"}),
                StartsWith("--staging: 'much'"));
  }
  EXPECT_THAT(error_of<UsageError>({"convert", "in", "out", "--max-shard-size", "5G"}),
              StartsWith("--max-shard-size: '5G'"));
}

TEST(Options, TellUsageFromInput) {
  EXPECT_THAT(error_of<UsageError>({}), HasSubstr("plan, load or run"));
  EXPECT_THAT(error_of<UsageError>({"plan"}), HasSubstr("berth plan needs a MODEL"));
  EXPECT_THAT(error_of<UsageError>({"fly", "m"}), HasSubstr("fly"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--polcy", "auto"}), HasSubstr("--polcy"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--policy", "balancd"}),
              HasSubstr("--policy: 'balancd' is not a policy (did you mean 'balanced'?)"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--batch", "-1"}), HasSubstr("--batch"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--policy", "auto", "--device-map", "f"}),
              HasSubstr("excludes"));
  EXPECT_THAT(error_of<UsageError>({"run", "m", "--prompt", "a", "--prompt-ids", "1"}),
              HasSubstr("excludes"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--max-memory", "0=80GBs"}),
              HasSubstr("--max-memory: '80GBs' is not a size"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--max-memory", "0=1GiB,0=2GiB"}),
              HasSubstr("device '0' is given twice"));
  EXPECT_THAT(error_of<UsageError>({"plan", "m", "--max-memory", "1GiB"}),
              HasSubstr("DEVICE=SIZE"));
  EXPECT_THAT(error_of<UsageError>({"run", "m", "--prompt-ids", "1,x"}),
              HasSubstr("--prompt-ids: 'x'"));
}

TEST(Options, AnswerHelpAndVersionOnStdout) {
  EXPECT_EQ(parse({"--version"}).text.rfind("berth ", 0), 0u);
  for (const char* command : {"plan", "load", "run"}) {
    const std::string help = parse({command, "--help"}).text;
    EXPECT_THAT(help, HasSubstr("Example:\n  berth " + std::string(command)));
    EXPECT_THAT(help, ::testing::Not(HasSubstr("--measure")));
  }
  EXPECT_THAT(parse({"--help"}).text, HasSubstr("Exit: 0"));
}

TEST(Options, LetFlagsWinOverTheDeploymentFile) {
  const testing::TemporaryFolder folder;
  const std::string file = folder.write("d.yml",
                                        "model: m\n"
                                        "policy: balanced\n"
                                        "workload: {batch: 3, context: 7}\n"
                                        "overrides: [{match: a, device: cpu}]\n"
                                        "priority: {1: -1}\n"
                                        "no_split: [MLP]\n"
                                        "run: {prompt_ids: [1]}\n");
  const Options kept = options_of({"run", file.c_str()});
  EXPECT_EQ(kept.model, folder.path() / "m");
  EXPECT_EQ(kept.settings.policy, Policy::kBalanced);
  EXPECT_EQ(kept.settings.batch, 3u);
  const Options won =
      options_of({"run", file.c_str(), "--batch", "4", "--device-map", "map.json", "--prompt",
                  "hello", "--override", "b=disk", "--priority", "0=2"});
  EXPECT_EQ(kept.settings.overrides->at(0).match, "a");
  ASSERT_EQ(won.settings.overrides->size(), 1u) << "a flag takes the place of the file's list";
  EXPECT_EQ(won.settings.overrides->at(0).match, "b");
  EXPECT_EQ(won.settings.priority->at(0).device, "0");
  EXPECT_EQ(won.settings.no_split->at(0), "MLP");
  EXPECT_EQ(won.settings.batch, 4u);
  EXPECT_EQ(won.settings.context, 7u);
  EXPECT_FALSE(won.settings.policy) << "a device map given as a flag silences the file's policy";
  EXPECT_FALSE(won.settings.prompt_ids) << "a prompt given as a flag silences the file's ids";
}

}  // namespace
}  // namespace berth

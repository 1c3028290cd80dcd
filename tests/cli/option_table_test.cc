// What holds for every row of the option table, a new one included.

#include "cli/options/option_table.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "berth/error.h"
#include "cli/options/command_line.h"
#include "cli/options/deployment.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Every option that takes a value takes one of its choices, or at least one of these texts.
// Likewise for YAML.
const std::vector<std::string> kTexts{"1",      "64MiB",  "float32", "balanced",    "mmap",
                                      "direct", "0=1GiB", "0=1",     "lm_head=cpu", "cpu"};
const std::vector<std::string> kYaml{"1",
                                     "64MiB",
                                     "true",
                                     "float32",
                                     "balanced",
                                     "mmap",
                                     "direct",
                                     "[1]",
                                     "{0: 1GiB}",
                                     "{0: 1}",
                                     "[{match: lm_head, device: cpu}]"};

// `texts` and, before them, what the option chooses from.
std::vector<std::string> with_choices(const OptionRow& row, const std::vector<std::string>& texts) {
  std::vector<std::string> all;
  if (row.choices != nullptr) {
    for (const std::string_view name : row.choices()) all.emplace_back(name);
  }
  all.insert(all.end(), texts.begin(), texts.end());
  return all;
}

// The first of these texts that the flag takes; empty if it takes none.
std::string good_text(const OptionRow& row) {
  for (const std::string& text : with_choices(row, kTexts)) {
    try {
      Options options;
      row.value.set(text, options);
      return text;
    } catch (const Error&) {
    }
  }
  return "";
}

// A deployment file that gives this option alone.
std::string deployment_with(const OptionRow& row, const std::string& yaml) {
  const std::size_t dot = row.key.find('.');
  const std::string key(row.key);
  const std::string entry = dot == std::string::npos ? key + ": " + yaml
                                                     : key.substr(0, dot) + ": {" +
                                                           key.substr(dot + 1) + ": " + yaml + "}";
  return "model: m\n" + entry + "\n";
}

// What a file that gives this option says; nullopt where none of the texts is a value for it.
std::optional<Settings> good_file(const OptionRow& row) {
  for (const std::string& yaml : with_choices(row, kYaml)) {
    try {
      return parse_deployment(parse_yaml(deployment_with(row, yaml), "deploy.yaml"), "").settings;
    } catch (const Error&) {
    }
  }
  return std::nullopt;
}

// The flags of all options that `settings` gives.
std::vector<std::string> given_in(const Settings& settings) {
  std::vector<std::string> flags;
  for (const OptionRow& row : option_table()) {
    if (row.value.given && row.value.given(settings)) flags.emplace_back(row.flag);
  }
  return flags;
}

const CommandRow& some_command(const OptionRow& row) {
  const auto commands = command_table();
  return *std::find_if(commands.begin(), commands.end(),
                       [&](const CommandRow& command) { return row.taken_by(command.command); });
}

// The result of parsing `berth COMMAND ... FLAG [text]`, with the arguments that the command needs.
Options options_with(const OptionRow& row, const CommandRow& command, const std::string& text) {
  std::vector<std::string> words{"berth", std::string(command.name)};
  for (const OptionRow& other : option_table()) {
    const bool needed = other.required || in(kPlanning, command.command);
    if (other.taken_by(command.command) && other.is_argument() && needed) words.emplace_back("m");
  }
  words.emplace_back(row.flag);
  if (row.value.takes != OptionValue::Takes::kNothing) words.push_back(text);
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  return *parse_command_line(static_cast<int>(argv.size()), argv.data()).options;
}

class EveryOption : public ::testing::TestWithParam<const OptionRow*> {
 protected:
  const OptionRow& row() const { return *GetParam(); }
};

TEST_P(EveryOption, SaysWhatItIs) {
  EXPECT_NE(row().commands, 0) << "no command takes it";
  EXPECT_NE(row().value.set, nullptr);
  if (row().is_hidden()) return;
  for (const std::string_view text : {row().help, row().guide, row().otherwise}) {
    EXPECT_EQ(text.find('|'), std::string_view::npos) << "it would end a cell of the guide's table";
  }
  for (const std::string_view text : {row().help, row().guide}) {
    EXPECT_TRUE(row().choices == nullptr || text.empty() || text.find("{}") != text.npos)
        << "the names to choose from have no place in '" << text << "'";
  }
  if (row().is_argument()) return;
  EXPECT_FALSE(row().group.empty()) << "without a heading it is missing from --help";
  EXPECT_EQ(row().shape.empty(), row().value.takes == OptionValue::Takes::kNothing)
      << "what takes a value shows its shape, what is a switch has none";
}

TEST_P(EveryOption, StandsInTheHelpOfItsCommands) {
  for (const CommandRow& command : command_table()) {
    const bool another_row =
        std::any_of(option_table().begin(), option_table().end(), [&](const OptionRow& other) {
          return &other != &row() && other.flag == row().flag && other.taken_by(command.command);
        });
    if (another_row) continue;
    const std::string name(command.name);
    const std::vector<const char*> words{"berth", name.c_str(), "--help"};
    const std::string help = parse_command_line(3, words.data()).text;
    std::string line = "\n  " + std::string(row().flag);
    if (!row().shape.empty()) line += " " + std::string(row().shape);
    const bool flag_shown =
        help.find(line + " ") != std::string::npos || help.find(line + "\n") != std::string::npos;
    const bool expected = row().taken_by(command.command) && !row().is_hidden();
    EXPECT_EQ(flag_shown, expected) << name << "\n" << help;
    if (expected) {
      EXPECT_THAT(help, HasSubstr(row().help_text()));
    }
  }
}

TEST_P(EveryOption, ExcludesWhatItsCommandsHave) {
  for (const std::string_view flag : row().excluded_flags()) {
    for (const CommandRow& command : command_table()) {
      if (!row().taken_by(command.command)) continue;
      const bool earlier = std::any_of(option_table().data(), &row(), [&](const OptionRow& other) {
        return other.flag == flag && other.taken_by(command.command);
      });
      EXPECT_TRUE(earlier) << flag << " is no earlier option of " << command.name;
    }
  }
}

TEST_P(EveryOption, IsGivenByItsFlagAndByNoOther) {
  if (row().is_argument() || row().is_hidden()) return;
  const std::string text = good_text(row());
  ASSERT_FALSE(text.empty()) << "no choice and nothing in kTexts is a value for it: add one";
  for (const CommandRow& command : command_table()) {
    if (!row().taken_by(command.command)) continue;
    const Options options = options_with(row(), command, text);
    std::vector<std::string> given = given_in(options.settings);
    if (row().value.given) {
      EXPECT_EQ(given, std::vector<std::string>{std::string(row().flag)}) << command.name;
    }
  }
}

TEST_P(EveryOption, BlamesItsFlagForABadText) {
  if (row().value.takes == OptionValue::Takes::kNothing || row().is_argument()) return;
  const std::string text = "?";
  bool bad = false;
  try {
    Options options;
    row().value.set(text, options);
  } catch (const Error&) {
    bad = true;
  }
  if (!bad) return;  // it takes any text: a path, a prompt
  try {
    options_with(row(), some_command(row()), text);
    ADD_FAILURE() << "'?' was taken";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), StartsWith(std::string(row().flag) + ": "));
  }
}

TEST_P(EveryOption, IsGivenByItsKeyAndByNoOther) {
  if (!row().value.read) return;
  ASSERT_FALSE(row().key.empty()) << "it can be read from a file, but has no key";
  const std::optional<Settings> settings = good_file(row());
  ASSERT_TRUE(settings) << "no choice and nothing in kYaml is a value for " << row().key
                        << ": add one";
  EXPECT_EQ(given_in(*settings), std::vector<std::string>{std::string(row().flag)});
}

TEST_P(EveryOption, NamesItsKeyForABadValue) {
  if (!row().value.read) return;
  try {
    parse_deployment(parse_yaml(deployment_with(row(), "[[]]"), "deploy.yaml"), "");
    ADD_FAILURE() << "a list in a list was taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith("deploy.yaml:2: " + std::string(row().key)));
  }
}

TEST_P(EveryOption, ComesFromTheFileWhereNoFlagSaysIt) {
  if (!row().value.read) return;
  const std::optional<Settings> file = good_file(row());
  ASSERT_TRUE(file);
  EXPECT_TRUE(row().value.given(merge({}, *file)));
  EXPECT_TRUE(row().value.given(merge(*file, {})));
  EXPECT_FALSE(row().value.given(merge({}, {})));
}

TEST_P(EveryOption, SilencesInTheFileWhatItContradicts) {
  if (!row().value.read) return;
  Options flags;
  row().value.set(good_text(row()), flags);
  for (const OptionRow& other : option_table()) {
    if (!other.value.read || &other == &row()) continue;
    const std::optional<Settings> file = good_file(other);
    ASSERT_TRUE(file) << other.flag;
    EXPECT_EQ(other.value.given(merge(flags.settings, *file)), !contradict(row(), other))
        << other.flag;
  }
}

std::vector<const OptionRow*> all_rows() {
  std::vector<const OptionRow*> rows;
  for (const OptionRow& row : option_table()) rows.push_back(&row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, EveryOption, ::testing::ValuesIn(all_rows()), [](const auto& row) {
  std::string name;
  for (const char c : some_command(*row.param).name) name += c;
  for (const char c : row.param->flag) {
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  }
  return name;
});

TEST(OptionTable, HasOneRowForAFlagOfACommandAndForAKey) {
  std::set<std::string> flags, keys;
  for (const OptionRow& row : option_table()) {
    for (const CommandRow& command : command_table()) {
      if (!row.taken_by(command.command)) continue;
      const std::string call = std::string(command.name) + " " + std::string(row.flag);
      EXPECT_TRUE(flags.insert(call).second) << call;
    }
    if (!row.key.empty()) {
      EXPECT_TRUE(keys.insert(std::string(row.key)).second) << row.key;
    }
  }
}

TEST(OptionTable, ContradictionsHoldBothWays) {
  const auto row = [](std::string_view flag) -> const OptionRow& {
    const auto rows = option_table();
    return *std::find_if(rows.begin(), rows.end(),
                         [&](const OptionRow& one) { return one.flag == flag; });
  };
  EXPECT_TRUE(contradict(row("--policy"), row("--device-map")));
  EXPECT_TRUE(contradict(row("--device-map"), row("--policy")));
  EXPECT_TRUE(contradict(row("--prompt"), row("--prompt-ids")));
  EXPECT_FALSE(contradict(row("--policy"), row("--machine")));
}

// Compares values, not only whether they are given, for an option of each form.
TEST(OptionTable, AFlagsValueTakesThePlaceOfTheFiles) {
  const Settings file = parse_deployment(parse_yaml("model: m\n"
                                                    "machine: h200\n"
                                                    "dequantize: true\n"
                                                    "exclude: [disk]\n"
                                                    "staging: 1GiB\n"
                                                    "overrides: [{match: a, device: cpu}]\n"
                                                    "workload: {batch: 3, context: 7}\n"
                                                    "run: {prompt: file, n: 4}\n",
                                                    "deploy.yaml"),
                                         "")
                            .settings;
  Options flags;
  flags.settings.machine = std::filesystem::path("2x4090");
  flags.settings.dequantize = false;
  flags.settings.excluded = std::vector<std::string>{"cpu"};
  flags.settings.staging = 5;
  flags.settings.overrides = std::vector<Override>{{"b", "0"}};
  flags.settings.batch = 9;
  flags.settings.prompts = {"flag"};
  const Settings merged = merge(flags.settings, file);
  EXPECT_EQ(std::get<std::filesystem::path>(*merged.machine), "2x4090");
  EXPECT_EQ(merged.dequantize, false);
  EXPECT_EQ(*merged.excluded, std::vector<std::string>{"cpu"});
  EXPECT_EQ(merged.staging, 5u);
  ASSERT_EQ(merged.overrides->size(), 1u);
  EXPECT_EQ(merged.overrides->at(0).match, "b");
  EXPECT_EQ(merged.batch, 9u);
  EXPECT_EQ(merged.context, 7u);
  EXPECT_EQ(merged.prompts, std::vector<std::string>{"flag"});
  EXPECT_EQ(merged.tokens, 4u);
}

}  // namespace
}  // namespace berth

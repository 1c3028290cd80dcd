// The table of options: a row says all that there is to know about an option.
//
// From it come the flags and their help (command_line.cc), the keys of a deployment file and how
// flags and file combine (deployment.cc), and the option tables of docs/guide.md and
// docs/calibrate.md, which `docs/make_options` writes and a test compares.
//
// A new option needs a member of Settings (or of Options, if only a flag can give it), a row in
// option_table.cc, and its use.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/option_value.h"
#include "cli/options/options.h"

namespace berth {

// Commands as bits, to say which of them take an option.
using Commands = std::uint8_t;

constexpr Commands only(Command command) {
  return static_cast<Commands>(1u << static_cast<unsigned>(command));
}
constexpr bool in(Commands commands, Command command) { return (commands & only(command)) != 0; }

inline constexpr Commands kPlan = only(Command::kPlan);
inline constexpr Commands kLoad = only(Command::kLoad);
inline constexpr Commands kRun = only(Command::kRun);
inline constexpr Commands kCalibrate = only(Command::kCalibrate);
inline constexpr Commands kConvert = only(Command::kConvert);
inline constexpr Commands kChecksum = only(Command::kChecksum);
inline constexpr Commands kLoading = kLoad | kRun;
inline constexpr Commands kPlanning = kPlan | kLoading;  // these take deployment files, too

struct OptionRow {
  std::string_view flag;      // "--batch", "-n"; or the name of an argument: "MODEL"
  std::string_view key = {};  // where a deployment file says it: "machine", "workload.batch"
  Commands commands = 0;
  std::string_view group = {};  // the heading in --help; empty for arguments and hidden flags
  std::string_view shape = {};  // what stands behind the flag, in help and guide: "SIZE"
  std::string_view help = {};   // a line of --help
  // What the guide says, in Markdown: the meaning (where it is empty, the help), and the default.
  std::string_view guide = {};
  std::string_view otherwise = {};
  // Of an option whose value is one of a few names: the names, the default first. They take the
  // place of {} in `help` and `guide`.
  std::vector<std::string_view> (*choices)() = nullptr;
  // The member that the option fills, and how texts and YAML become its value.
  OptionValue value;
  // Flags of earlier rows that contradict this one. Both on a command line are an error, and so are
  // both in a deployment file; either as a flag silences the other in the file.
  std::array<std::string_view, 5> excludes = {};
  bool required = false;  // a command line must give it

  constexpr bool taken_by(Command command) const { return in(commands, command); }
  constexpr bool is_argument() const { return flag[0] != '-'; }
  constexpr bool is_hidden() const { return help.empty(); }
  // `help` and `guide` with their choices: "a (default), b or c" and "`a`, `b` or `c`".
  std::string help_text() const;
  std::string guide_text() const;
  // The part of `excludes` that is filled.
  std::span<const std::string_view> excluded_flags() const;
};

// All options. In --help and where keys are listed they stand in this order.
std::span<const OptionRow> option_table();

struct CommandRow {
  Command command;
  std::string_view name;
  std::string_view help;
  std::string_view example;
  std::string_view loading = "Loading";  // the heading in its --help for the group "Loading"
};

std::span<const CommandRow> command_table();

// The heading under which the help of a command has an option.
std::string_view heading(const OptionRow& row, const CommandRow& command);

// Whether only one of the two may be given.
bool contradict(const OptionRow& one, const OptionRow& other);

}  // namespace berth

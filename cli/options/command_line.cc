#include "cli/options/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "cli/options/deployment.h"
#include "cli/options/option_table.h"

namespace berth {
namespace {

constexpr const char* kExamples =
    "\nExamples:\n"
    "  berth plan models/SmolLM2-135M-Instruct\n"
    "  berth load configs/deployments/demo.yaml --compare-naive\n"
    "  berth run models/SmolLM2-135M-Instruct --prompt \"The capital of France is\"\n"
    "\nExit: 0 done or fits, 2 does not fit, 1 error, 64 usage.\n";

// Help without CLI11's notes on types and exclusions: the text says what matters.
class Help : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string shape = option->get_type_name();
    return shape.empty() ? "" : " " + shape;
  }
};

// Whatever is wrong with the text of a flag is wrong with the call: every Error comes back as a
// UsageError that names the flag.
void set_option(const OptionRow& row, const std::string& text, Options& options) {
  try {
    row.value.set(text, options);
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}: {}", row.flag, error.what()));
  }
}

CLI::Option* declare_option(CLI::App& app, const OptionRow& row, Options& options) {
  const std::string flag(row.flag);
  const std::string help = row.help_text();
  switch (row.value.takes) {
    case OptionValue::Takes::kNothing:
      return app.add_flag_callback(
          flag, [&row, &options] { row.value.set("", options); }, help);
    case OptionValue::Takes::kTexts:
      return app
          .add_option_function<std::vector<std::string>>(
              flag,
              [&row, &options](const std::vector<std::string>& texts) {
                for (const std::string& text : texts) set_option(row, text, options);
              },
              help)
          ->allow_extra_args(false);
    case OptionValue::Takes::kText:
      break;
  }
  return app.add_option_function<std::string>(
      flag, [&row, &options](const std::string& text) { set_option(row, text, options); }, help);
}

// Everything that a command accepts. `options` must outlive the parsing.
void declare_options(CLI::App& app, const CommandRow& command, Options& options) {
  for (const OptionRow& row : option_table()) {
    if (!row.taken_by(command.command)) continue;
    CLI::Option* option = declare_option(app, row, options);
    option->type_name(std::string(row.shape));
    option->required(row.required);
    if (!row.is_argument()) option->group(std::string(heading(row, command)));
    for (const std::string_view other : row.excluded_flags()) {
      option->excludes(app.get_option(std::string(other)));
    }
  }
  app.footer(fmt::format("\nExample:\n  {}", command.example));
}

bool is_deployment(const std::filesystem::path& model) {
  return model.extension() == ".yaml" || model.extension() == ".yml";
}

void read_deployment_of(Options& options) {
  options.deployment = options.model;
  Deployment deployment = read_deployment(options.deployment);
  options.model = std::move(deployment.model);
  options.settings = merge(options.settings, deployment.settings);
}

// Throws UsageError for a dtype that a load would have to quantise to.
void refuse_what_only_plans(const Options& options) {
  const DTypeChoice choice = options.settings.dtype.value_or(DTypeChoice{});
  if (options.command == Command::kPlan || choice.made_anew == nullptr) return;
  throw UsageError(
      fmt::format("--dtype: Berth does not quantise to {}, and only plan can take it "
                  "(load what is stored: auto, float32, float16 or bfloat16)",
                  choice.made_anew->name));
}

// A command as CLI11 knows it, and what its flags said.
struct Entry {
  const CommandRow* row = nullptr;
  CLI::App* app = nullptr;
  Options options;
};

// The options of the command that was called, with those of its deployment file if it names one.
Options finish(Entry& entry, int argc, const char* const* argv) {
  Options& options = entry.options;
  options.arguments.assign(argv + 1, argv + argc);
  if (!in(kPlanning, options.command)) return std::move(options);
  if (options.model.empty()) {
    throw UsageError(fmt::format("berth {} needs a MODEL, for example: {}", entry.row->name,
                                 entry.row->example));
  }
  if (is_deployment(options.model)) read_deployment_of(options);
  refuse_what_only_plans(options);
  return std::move(options);
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CLI::App app("Berth decides where a model's weights will live, and gets them there.", "berth");
  app.set_version_flag("--version", "berth " BERTH_VERSION);
  app.footer(kExamples);
  app.formatter(std::make_shared<Help>());
  app.get_formatter()->column_width(26);

  std::vector<Entry> entries(command_table().size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const CommandRow& row = command_table()[i];
    Entry& entry = entries[i];
    entry.row = &row;
    entry.options.command = row.command;
    entry.app = app.add_subcommand(std::string(row.name), std::string(row.help));
    // The options of a command that nobody names need not be set up.
    if (std::find(argv, argv + argc, row.name) != argv + argc) {
      declare_options(*entry.app, row, entry.options);
    }
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return {{}, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return {{}, fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{} (see berth --help)", error.what()));
  }

  for (Entry& entry : entries) {
    if (entry.app->parsed()) return {finish(entry, argc, argv), {}};
  }
  throw UsageError(
      "berth needs a command: calibrate, checksum, convert, plan, load or run (see berth --help)");
}

}  // namespace berth

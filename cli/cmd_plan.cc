// berth plan: decide, say why, and stop. Loads neither CUDA nor libtorch.

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "berth/error.h"
#include "cli/across.h"
#include "cli/commands.h"
#include "cli/planning.h"
#include "cli/process/terminal.h"
#include "cli/report/compare.h"
#include "cli/report/dot.h"
#include "cli/report/plan_json.h"
#include "cli/report/plan_report.h"
#include "cli/report/svg.h"
#include "planner/base/join.h"
#include "planner/base/output_file.h"
#include "planner/export/advice.h"
#include "planner/export/exports.h"
#include "planner/plan/map_notes.h"
#include "planner/try_plan.h"

namespace berth {
namespace {

const ExportRow& row_of(ExportTool tool) { return kExports[static_cast<std::size_t>(tool)]; }

// Throws UsageError where two flags both want to write their answer to stdout.
void require_one_answer(const Options& options) {
  std::vector<std::string> claims;
  if (options.json) claims.push_back("--json");
  if (options.print_device_map) claims.push_back("--print-device-map");
  for (const ExportTool tool : options.exports) claims.emplace_back(row_of(tool).flag);
  if (options.dot == "-") claims.push_back("--dot -");
  if (options.svg == "-") claims.push_back("--svg -");
  if (claims.size() > 1) {
    throw UsageError(claims[0] + " and " + claims[1] + " both write to stdout; keep one");
  }
  if (options.compare && !claims.empty() && !options.json) {
    throw UsageError("--compare and " + claims[0] + " both write to stdout; keep one");
  }
}

// Plans by every policy; the plan of `planned` becomes that of the policy that was asked for.
std::vector<ComparedPlan> compare(Planned& planned, bool json) {
  std::vector<ComparedPlan> rows = compare_policies(planned);
  const auto asked = planned.request.device_map
                         ? rows.end() - 1
                         : std::find_if(rows.begin(), rows.end(), [&](const ComparedPlan& row) {
                             return row.name == policy_name(planned.request.policy);
                           });
  if (!asked->plan) {
    if (!json) write_stdout(model_line(planned.model) + "\n" + comparison_report(rows));
    throw Error(asked->error);
  }
  planned.plan = *asked->plan;
  return rows;
}

// `text` as one word of a shell.
std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || std::strchr("-_./=:,+@%", c);
  });
  if (plain) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

// The model as vLLM is told of it: a folder, or a GGUF file.
std::string model_word(const std::filesystem::path& model) {
  if (std::filesystem::is_directory(model) || model.extension() == ".gguf") {
    return shell_word(model.string());
  }
  return shell_word(model.has_parent_path() ? model.parent_path().string() : ".");
}

// "try A, or B".
std::string tried(const std::vector<std::string>& advice) {
  return advice.empty() ? "no other flag that was tried helps" : "try " + join(advice, ", or ");
}

// The plan in another tool's words; what they leave out goes to stderr. "" if the plan does not
// fit: what would is then among its suggestions. Throws Error, with what to try, if it fits and the
// tool cannot do as planned.
std::string exported(const ExportRow& tool, const Options& options, Planned& planned) {
  const ModelTree& tree = planned.model.tree;
  Advised found = export_with_advice(tool, tree, planned.machine, planned.request, planned.plan,
                                     [&](const Machine& machine, const Request& request) {
                                       return try_plan(tree, machine, request);
                                     });
  if (!found.words) {
    if (planned.plan.fits()) throw Error(found.reason + "; " + tried(found.advice));
    std::vector<std::string>& suggestions = planned.plan.shortfall->suggestions;
    // Of the plan's own suggestions those that are flags were not tried with this tool.
    std::erase_if(suggestions, [](const std::string& words) { return words.starts_with("--"); });
    suggestions.insert(suggestions.begin(), found.advice.begin(), found.advice.end());
    return "";
  }
  if (!found.reason.empty()) {
    write_stderr("note: " + found.reason + ": planned with " + found.advice.front() + " instead\n");
  }
  const Export& words = *found.words;
  for (const std::string& note : words.notes) write_stderr("note: " + note + "\n");
  if (tool.command.empty()) return words.arguments + "\n";
  const std::string variables = words.environment.empty() ? "" : words.environment + " ";
  return variables + std::string(tool.command) + " " + model_word(options.model) + " " +
         words.arguments + "\n";
}

// The map; what transformers would do with it goes to stderr. An estimate has no names of modules
// that anyone else knows.
std::string printed_map(const Planned& planned) {
  if (planned.model.tree.estimated) {
    throw Error(planned.model.tree.name +
                ": no device map: the names of its modules are not known from its config.json; "
                "name the folder of its checkpoint");
  }
  std::vector<std::string> notes = planned.plan.notes;
  std::erase_if(notes, [](const std::string& note) { return !note.starts_with("device map"); });
  if (planned.plan.policy != Policy::kDeviceMap) {  // else they are among the plan's
    notes = device_map_notes(planned.model.tree, planned.plan);
  }
  if (planned.model.checkpoint && has_tiles(*planned.model.checkpoint)) {
    notes.emplace_back(
        "the weights are in tiles, which neither transformers nor accelerate reads: "
        "the map is for the file that they were converted from");
  }
  for (const std::string& note : notes) write_stderr("note: " + note + "\n");
  return device_map_json(planned.plan.device_map) + "\n";
}

std::string answer(const Options& options, Planned& planned,
                   const std::vector<ComparedPlan>& rows) {
  if (options.dot == "-") return plan_dot(planned);
  if (options.svg == "-") return plan_svg(planned);
  if (!options.exports.empty()) return exported(row_of(options.exports[0]), options, planned);
  if (options.print_device_map) return printed_map(planned);
  if (options.json) return plan_json(planned, rows);
  if (options.compare) {
    return model_line(planned.model) + request_line(planned.plan, false) + "\n" +
           comparison_report(rows);
  }
  return plan_report(planned, {options.verbose, wants_colour(Stream::kStdout)});
}

}  // namespace

int cmd_plan(const Options& options) {
  require_one_answer(options);
  const Settings& settings = options.settings;
  if (settings.across) return plan_across(options);
  if (settings.dtypes || settings.want) {
    throw UsageError(fmt::format("{}: is for --across, which says for which machines",
                                 settings.dtypes ? "--dtypes" : "--want"));
  }
  // This is never freed: to free a large model takes as long as to plan it, and the process ends
  // anyway.
  static Planned& planned =
      *new Planned(options.compare ? open_planned(options) : make_planned(options));
  std::vector<ComparedPlan> rows;
  if (options.compare) rows = compare(planned, options.json);

  if (options.save) write_file(*options.save, plan_json(planned));
  if (options.dot && options.dot != "-") write_file(*options.dot, plan_dot(planned));
  if (options.svg && options.svg != "-") write_file(*options.svg, plan_svg(planned));
  write_stdout(answer(options, planned, rows));

  if (planned.plan.fits()) return kExitDone;
  // Here stdout holds an answer for another program, so the verdict goes to stderr.
  if (options.print_device_map || !options.exports.empty() || options.dot == "-" ||
      options.svg == "-") {
    write_stderr(verdict(planned, wants_colour(Stream::kStderr)));
  }
  return kExitDoesNotFit;
}

}  // namespace berth

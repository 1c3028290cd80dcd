// berth load: plans, loads, and reports what was measured beside what was planned.

#include "cli/commands.h"
#include "cli/loading.h"
#include "cli/loading_compared.h"
#include "cli/process/interrupt.h"
#include "cli/process/terminal.h"
#include "cli/report/load_report.h"
#include "cli/report/plan_json.h"
#include "cli/report/plan_report.h"
#include "planner/base/output_file.h"

namespace berth {
namespace {

int refuse(const Options& options, const Planned& planned) {
  if (options.json) write_stdout(plan_json(planned));
  write_stderr(verdict(planned, wants_colour(Stream::kStderr)));
  return kExitDoesNotFit;
}

}  // namespace

int cmd_load(const Options& options) {
  if (options.measure) {
    write_stdout(measure_here(options));
    return kExitDone;
  }
  const Planned planned = make_planned(options);
  if (!planned.plan.fits()) return refuse(options, planned);

  LoadReport report;
  {
    const InterruptGuard interrupt;
    report =
        interrupt.run([&] { return load_by_plan(options, planned, interrupt.flag())->report(); });
  }
  std::optional<Comparison> comparison;
  if (options.compare_naive) comparison = compare_with_naive(options, planned);

  if (options.json) {
    JsonWriter json;
    json.begin_object();
    write_plan(json, planned);
    write_load(json, report);
    if (comparison) write_comparison(json, *comparison);
    json.end_object();
    write_stdout(json.take());
    return kExitDone;
  }
  std::string text = load_report(planned, report, options.verbose);
  if (comparison) text += comparison_report(*comparison);
  write_stdout(text);
  return kExitDone;
}

}  // namespace berth

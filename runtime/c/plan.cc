// Plans for the C interface: the same options, plan and texts as those of `berth plan`.
#include <array>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "berth/berth_c.h"
#include "cli/options/command_line.h"
#include "cli/planning.h"
#include "cli/report/plan_json.h"
#include "cli/report/plan_report.h"
#include "cli/report/svg.h"
#include "planner/checkpoint/open/model_path.h"
#include "runtime/c/guard.h"

struct berth_plan {
  berth::Planned planned;
  std::mutex mutex = {};  // guards what follows
  std::array<std::optional<std::string>, BERTH_PLAN_DEVICE_MAP + 1> texts =
      {};  // made when asked for
};

namespace berth {
namespace {

Options parse(const char* model, const char* const* arguments, std::size_t count) {
  if (model == nullptr || (arguments == nullptr && count > 0)) {
    throw BadArgument("berth_plan_make: it needs a model, and arguments that are not NULL");
  }
  std::vector<const char*> words = {"berth", "plan", model};
  words.insert(words.end(), arguments, arguments + count);
  try {
    CommandLine line = parse_command_line(static_cast<int>(words.size()), words.data());
    if (!line.options) throw BadArgument("berth_plan_make: --help and --version make no plan");
    if (line.options->settings.across) {
      throw BadArgument("--across: makes many plans; the command berth compares them");
    }
    return std::move(*line.options);
  } catch (const UsageError& error) {
    throw BadArgument(error.what());
  }
}

std::string text_of(const Planned& planned, std::uint32_t form) {
  switch (form) {
    case BERTH_PLAN_JSON:
      return plan_json(planned);
    case BERTH_PLAN_TEXT:
      return plan_report(planned, {});
    case BERTH_PLAN_VERBOSE:
      return plan_report(planned, {.verbose = true});
    case BERTH_PLAN_SVG:
      return plan_svg(planned);
    default:
      return device_map_json(planned.plan.device_map);
  }
}

}  // namespace
}  // namespace berth

using namespace berth;

berth_status berth_plan_make(const char* model, const char* const* arguments, size_t count,
                             berth_plan** plan, berth_error* error) {
  return guarded(error, BERTH_ERROR, [&] {
    if (plan == nullptr) throw BadArgument("berth_plan_make: there is no place for the handle");
    if (model != nullptr && *model == '\0') throw NoFile("'': the name of the model is empty");
    const Options options = parse(model, arguments, count);
    std::error_code ignored;
    if (!std::filesystem::exists(resolve_model(options.model).path, ignored)) {
      throw NoFile(options.model.string() + ": no such file or folder");
    }
    try {
      *plan = new berth_plan{make_planned(options)};
    } catch (const UsageError& wrong) {
      throw BadArgument(wrong.what());
    }
  });
}

void berth_plan_free(berth_plan* plan) { delete plan; }

int32_t berth_plan_fits(const berth_plan* plan) { return plan->planned.plan.fits() ? 1 : 0; }

berth_status berth_plan_text(berth_plan* plan, uint32_t form, const char** text,
                             berth_error* error) {
  return guarded(error, BERTH_ERROR, [&] {
    if (plan == nullptr || text == nullptr || form >= plan->texts.size()) {
      throw BadArgument("berth_plan_text: it needs a plan, one of its forms and a place for text");
    }
    const std::scoped_lock lock(plan->mutex);
    std::optional<std::string>& made = plan->texts[form];
    if (!made) made = text_of(plan->planned, form);
    *text = made->c_str();
  });
}

#include "cli/loading.h"

#include <fmt/format.h>

#include <string>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/process/bus_guard.h"
#include "cli/process/progress_bar.h"
#include "cli/process/runtime_library.h"
#include "planner/model/open/companions.h"
#include "planner/model/open/formats.h"

namespace berth {

void require_weights(const Model& model, const std::filesystem::path& named,
                     std::string_view done) {
  if (model.checkpoint) return;
  throw Error(fmt::format("{}: describes a model without its weights: it can be planned, not {}",
                          named.string(), done));
}

std::unique_ptr<LoadedModel> load_by_plan(const Options& options, const Planned& planned,
                                          const std::atomic<bool>* cancel) {
  const Settings& settings = options.settings;
  require_weights(planned.model, options.model, "loaded");
  const bool emulate = settings.emulate.value_or(false);
  const Machine now = planned.probed ? *planned.probed : probe_machine(folder_of(planned.model));
  const std::string trouble = recheck(planned.plan, now, emulate);
  if (!trouble.empty()) throw Error(trouble);

  const LoaderApi& library = loader_library();
  explain_bus_errors();  // weights may be mapped from here on
  ProgressBar bar("loading");
  LoadOptions load;
  load.prefault = settings.prefault.value_or(load.prefault);
  load.io = settings.io.value_or(load.io);
  load.staging = planned.plan.staging;
  load.emulate = emulate;
  // Tiles of a file stay as they are for a load, too: it measures what a run will get.
  load.tile = options.command == Command::kRun || has_tiles(*planned.model.checkpoint);
  load.machine = now;
  if (settings.checksums || settings.verify.value_or(false)) {
    load.verify =
        settings.checksums.value_or(checksum_file(planned.model.path, *planned.model.checkpoint));
  }
  load.offload_folder = settings.offload_folder.value_or(load.offload_folder);
  load.cancel = cancel;
  load.on_progress = [&bar](const LoadProgress& progress) { bar.draw(progress); };
  return library.load(planned.model, planned.plan, load);
}

}  // namespace berth

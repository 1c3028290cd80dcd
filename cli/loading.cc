#include "cli/loading.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "cli/runtime_library.h"
#include "cli/terminal.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// One line on stderr, redrawn in place; nothing at all where stderr is no terminal.
class ProgressBar {
 public:
  ProgressBar() : active_(is_terminal(Stream::kStderr)), colour_(wants_colour(Stream::kStderr)) {}
  ~ProgressBar() {
    if (drawn_) write_stderr("\r\x1b[K");
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void draw(const LoadProgress& progress) {
    if (!active_ || progress.bytes_total == 0) return;
    const double part = std::min(
        1.0, static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total));
    const auto cells = static_cast<std::size_t>(part * kCells);
    const double rate = progress.seconds > 0
                            ? static_cast<double>(progress.bytes_done) / progress.seconds / 1e9
                            : 0;
    std::string bar = std::string(cells, '=') + std::string(kCells - cells, ' ');
    if (colour_) bar = "\x1b[36m" + bar + "\x1b[0m";
    std::string line =
        fmt::format("\rloading [{}] {:3.0f} %  {} of {}  {:.2f} GB/s\x1b[K", bar, part * 100,
                    format_size(progress.bytes_done), format_size(progress.bytes_total), rate);
    write_stderr(line);
    drawn_ = true;
  }

 private:
  static constexpr std::size_t kCells = 30;
  bool active_;
  bool colour_;
  bool drawn_ = false;
};

std::filesystem::path folder_of(const Model& model) {
  return model.checkpoint ? model.checkpoint->folder : model.path.parent_path();
}

}  // namespace

std::unique_ptr<LoadedModel> load_by_plan(const Options& options, const Planned& planned,
                                          const std::atomic<bool>* cancel) {
  const Settings& settings = options.settings;
  if (!planned.model.checkpoint) {
    throw Error(
        fmt::format("{}: describes a model without its weights: it can be planned, not "
                    "loaded",
                    options.model.string()));
  }
  const bool emulate = settings.emulate.value_or(false);
  const std::string trouble =
      recheck(planned.plan, probe_machine(folder_of(planned.model)), emulate);
  if (!trouble.empty()) throw Error(trouble);

  const LoaderApi& library = loader_library();
  ProgressBar bar;
  LoadOptions load;
  load.prefault = settings.prefault.value_or(load.prefault);
  load.io = settings.io.value_or(load.io);
  load.staging = planned.plan.staging;
  load.emulate = emulate;
  load.cancel = cancel;
  load.on_progress = [&bar](const LoadProgress& progress) { bar.draw(progress); };
  return library.load(planned.model, planned.plan, load);
}

}  // namespace berth

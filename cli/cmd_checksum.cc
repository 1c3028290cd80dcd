// berth checksum: read every tensor once, write down what it holds.

#include <fmt/format.h>

#include <chrono>

#include "berth/checkpoint.h"
#include "berth/planner.h"
#include "cli/commands.h"
#include "cli/process/interrupt.h"
#include "cli/process/progress_bar.h"
#include "cli/process/runtime_library.h"
#include "cli/process/terminal.h"
#include "planner/base/output_file.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/formats.h"

namespace berth {

int cmd_checksum(const Options& options) {
  const Checkpoint checkpoint = open_stored(options.model);
  const std::filesystem::path out = options.out.value_or(checksum_file(options.model, checkpoint));
  for (const std::string& note : checkpoint.notes) write_stderr("note: " + note + "\n");
  const InterruptGuard interrupt;
  LoadOptions reading;
  reading.io = options.settings.io.value_or(reading.io);
  reading.staging = options.settings.staging.value_or(reading.staging);
  reading.cancel = interrupt.flag();
  const auto start = std::chrono::steady_clock::now();
  {
    ProgressBar bar("reading");
    reading.on_progress = [&bar](const LoadProgress& progress) { bar.draw(progress); };
    write_file(out, interrupt.run([&] { return loader_library().checksum(checkpoint, reading); }));
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  write_stdout(fmt::format("{}: {} tensors, {} in {:.3f} s\n", out.string(),
                           checkpoint.tensors.size(), format_size(checkpoint.bytes()),
                           took.count()));
  return kExitDone;
}

}  // namespace berth

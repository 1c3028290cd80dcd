#include "cli/process/progress_bar.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/process/terminal.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

constexpr std::size_t kCells = 30;

}  // namespace

ProgressBar::ProgressBar(std::string doing)
    : doing_(std::move(doing)),
      active_(is_terminal(Stream::kStderr)),
      colour_(wants_colour(Stream::kStderr)) {}

ProgressBar::~ProgressBar() {
  if (drawn_) write_stderr("\r\x1b[K");
}

void ProgressBar::draw(const LoadProgress& progress) {
  if (!active_ || progress.bytes_total == 0) return;
  const double part = std::min(
      1.0, static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total));
  const auto cells = static_cast<std::size_t>(part * kCells);
  const double rate =
      progress.seconds > 0 ? static_cast<double>(progress.bytes_done) / progress.seconds / 1e9 : 0;
  std::string bar = std::string(cells, '=') + std::string(kCells - cells, ' ');
  if (colour_) bar = "\x1b[36m" + bar + "\x1b[0m";
  write_stderr(fmt::format("\r{} [{}] {:3.0f} %  {} of {}  {:.2f} GB/s\x1b[K", doing_, bar,
                           part * 100, format_size(progress.bytes_done),
                           format_size(progress.bytes_total), rate));
  drawn_ = true;
}

}  // namespace berth

#include "cli/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cli/report/layer_runs.h"
#include "cli/report/plan_report.h"
#include "cli/report/svg_canvas.h"
#include "cli/report/table.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

constexpr double kMargin = 32;
constexpr double kTop = 138;     // where the tallest column has its top
constexpr double kHeight = 380;  // of the tallest column
constexpr double kGap = 22;
constexpr double kRow = 15;        // height of a row of figures under a column
constexpr double kBothLines = 30;  // a block of this height shows its name and its size
constexpr const char* kKv = "#f2a33a";
constexpr const char* kWorkspace = "#b79ae0";
constexpr const char* kReserved = "#9aa3ae";
constexpr const char* kFree = "#f4f6f9";
constexpr const char* kMissing = "#c62828";
constexpr const char* kFaint = "#5b6673";

// The row of a kind of device in tables of looks: all GPUs look alike.
std::size_t look(DeviceKind kind) { return is_gpu(kind) ? 0 : kind == DeviceKind::kCpu ? 1 : 2; }

// Two shades for each kind of device, so that neighbouring runs look different. White text is
// legible on all of them.
const char* weights_colour(DeviceKind kind, std::size_t index) {
  static constexpr const char* kColours[3][2] = {
      {"#2f5f9e", "#44739f"}, {"#2e7352", "#4a7a58"}, {"#6f5b48", "#85705a"}};
  return kColours[look(kind)][index % 2];
}

std::uint64_t used(const DeviceLedger& device) {
  return device.reserved + device.weights + device.kv_cache + device.workspace;
}

// How one device is drawn.
struct Column {
  const DeviceLedger* device = nullptr;
  std::vector<LayerRun> runs;
  std::uint64_t shown = 0;   // bytes that the column's height stands for
  double pixels = 0;         // for each byte
  double times_smaller = 1;  // drawn so much smaller than the other columns
  bool cut = false;          // there is more free space than is drawn
};

// Gives all columns one scale, which follows from the largest GPU; without GPUs, from what is used.
// If the CPU or the disk holds far more, it gets a scale of its own. Free space beyond the largest
// GPU is cut off.
std::vector<Column> make_columns(const Planned& planned) {
  constexpr double kMostOfBase = 3;
  const Plan& plan = planned.plan;
  std::vector<Column> columns;
  std::uint64_t base = 0;
  std::uint64_t most_used = 1;
  std::uint64_t host = 0;
  for (const DeviceLedger& device : plan.devices) {
    columns.push_back({&device, {}, 0, 0, 1, false});
    most_used = std::max(most_used, used(device));
    if (device.kind == DeviceKind::kCpu) host = device.capacity;
    if (is_gpu(device.kind)) base = std::max({base, device.capacity, used(device)});
  }
  // Without GPUs the scale follows from the CPU with its free space, but what is used gets at least
  // a quarter of the height.
  if (base == 0 || base >= kShownAsUnlimited)
    base = std::min(std::max(host, most_used), 4 * most_used);
  for (const LayerRun& run : layer_runs(planned.model.tree, plan)) {
    if (run.bytes > 0) columns[run.device].runs.push_back(run);
  }
  std::uint64_t tallest = 1;
  const auto most = static_cast<std::uint64_t>(kMostOfBase * static_cast<double>(base));
  for (Column& column : columns) {
    const std::uint64_t held = used(*column.device);
    const std::uint64_t whole = std::max(column.device->capacity, held);
    const bool gpu = is_gpu(column.device->kind);
    column.shown = gpu && whole < kShownAsUnlimited
                       ? whole
                       : std::min(whole, std::max(held + held / 12, base));
    column.cut = column.shown < whole;
    if (gpu || held <= most) {
      column.shown = gpu ? column.shown : std::min(column.shown, std::max(most, held));
      tallest = std::max(tallest, column.shown);
    } else {
      column.times_smaller = 0;  // gets a scale of its own below
    }
  }
  const double common = kHeight / static_cast<double>(tallest);
  for (Column& column : columns) {
    column.pixels = column.times_smaller > 0 ? common : kHeight / static_cast<double>(column.shown);
    column.times_smaller = common / column.pixels;
  }
  return columns;
}

// The text on a block. Labels are drawn after all blocks, so that none covers them.
struct Label {
  Box box;
  std::string words;
  std::uint64_t bytes = 0;
  const char* ink = "";
};

class Picture {
 public:
  explicit Picture(const Planned& planned)
      : planned_(planned),
        columns_(make_columns(planned)),
        column_width_(columns_.size() > 6 ? 96 : 116),
        width_(std::max(860.0, 2 * kMargin - kGap +
                                   static_cast<double>(columns_.size()) * (column_width_ + kGap))),
        base_(kTop + kHeight),
        panel_(base_ + 62 + 5 * kRow + 22),
        canvas_(width_, panel_ + 112, "Where the weights of " + planned.model.tree.name + " live") {
  }

  std::string draw() {
    header();
    const double all = static_cast<double>(columns_.size()) * (column_width_ + kGap) - kGap;
    double x = (width_ - all) / 2;
    for (const Column& column : columns_) {
      draw_column(column, x);
      figures(column, x);
      x += column_width_ + kGap;
    }
    load_bars();
    after_load();
    return canvas_.take();
  }

 private:
  void header() {
    const Plan& plan = planned_.plan;
    const double room = width_ - 2 * kMargin;
    const std::string says = plan.fits() ? fits_words(plan) : shortfall_sentence(plan);
    const double pill = text_width(says, 13, true) + 28;
    canvas_.text(kMargin, 38, fitted(planned_.model.tree.name, 22, room - pill - 16, true),
                 {22, "#1f2933", "start", true});
    canvas_.rect({width_ - kMargin - pill, 19, pill, 26}, plan.fits() ? "#1b7f4b" : kMissing,
                 "rx=\"13\"");
    canvas_.text(width_ - kMargin - pill / 2, 36.5, says, {13, "#ffffff", "middle", true});
    std::string facts = model_line(planned_.model);
    facts = facts.substr(std::min(facts.size(), planned_.model.tree.name.size() + 3));
    canvas_.text(kMargin, 60, fitted(one_line(facts), 12, room), {12, kFaint, "start", false});
    canvas_.text(kMargin, 77, fitted(one_line(request_line(plan)), 12, room),
                 {12, kFaint, "start", false});
    legend(103);
  }

  static std::string one_line(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n')) {
      text.erase(at, text.find_first_not_of(" \n", at) - at);
      text.insert(at, " ");
    }
    const std::size_t unit = text.find("; table in GiB");
    return text.substr(0, unit);
  }

  void legend(double y) {
    double x = kMargin;
    const auto entry = [&](const char* colour, const std::string& label) {
      canvas_.rect({x, y - 10, 12, 12}, colour,
                   colour == kFree ? "stroke=\"#b6bfca\" stroke-dasharray=\"3 2\"" : "");
      canvas_.text(x + 17, y, label, {11, "#1f2933", "start", false});
      x += 17 + text_width(label, 11) + 16;
    };
    bool over = false;
    for (const DeviceKind kind : {DeviceKind::kCuda, DeviceKind::kCpu, DeviceKind::kDisk}) {
      const bool any = std::any_of(columns_.begin(), columns_.end(), [&](const Column& column) {
        return look(column.device->kind) == look(kind) && column.device->weights > 0;
      });
      if (!any) continue;
      const char* where[] = {"weights on a gpu", "weights in host RAM", "weights on disk"};
      entry(weights_colour(kind, 0), where[look(kind)]);
    }
    for (const Column& column : columns_) over |= column.device->over > 0;
    entry(kKv, "KV cache");
    entry(kWorkspace, "workspace");
    entry(kReserved, "reserved");
    entry(kFree, "free");
    if (over) entry(kMissing, "missing");
  }

  // From the base line upwards: reserved, workspace, KV cache, layers (the first on top), free.
  void draw_column(const Column& column, double x) {
    const DeviceLedger& device = *column.device;
    double y = base_;
    const double top = base_ - static_cast<double>(column.shown) * column.pixels;
    canvas_.rect({x, top, column_width_, base_ - top}, kFree,
                 "stroke=\"#b6bfca\" stroke-dasharray=\"3 2\"",
                 device_label(device) + ": free " + format_size(device.free));
    const auto block = [&](std::uint64_t bytes, const char* colour, const std::string& label,
                           const char* ink, std::uint64_t count) {
      const double height = static_cast<double>(bytes) * column.pixels;
      y -= height;
      if (height < 0.05) return;
      canvas_.rect({x, y, column_width_, height}, colour, "",
                   device_label(device) + ": " + label + ", " + format_size(bytes));
      separators({x, y, column_width_, height}, count);
      // A run with many gaps shows its number of layers if its name is too wide for the block.
      const bool fits = text_width(label, 9.5, true) <= column_width_ - 6;
      const std::string words = fits || count < 2 ? label : fmt::format("{} layers", count);
      labels_.push_back({{x, y, column_width_, height}, words, bytes, ink});
    };
    block(device.reserved, kReserved, "reserved", "#1f2933", 1);
    block(device.workspace, kWorkspace, "workspace", "#1f2933", 1);
    block(device.kv_cache, kKv, "KV cache", "#1f2933", 1);
    std::uint64_t in_runs = 0;
    for (const LayerRun& run : column.runs) in_runs += run.bytes;
    // The blocks together are as high as the weights, even if two of them count a tied tensor each.
    const double share =
        in_runs > 0 ? static_cast<double>(device.weights) / static_cast<double>(in_runs) : 1;
    for (std::size_t i = column.runs.size(); i-- > 0;) {
      const LayerRun& run = column.runs[i];
      block(static_cast<std::uint64_t>(static_cast<double>(run.bytes) * share),
            weights_colour(device.kind, i), run.short_name, "#ffffff", run.count);
    }
    if (device.over > 0) missing(column, x, y);
    if (device.over == 0) {
      const double edge = column.cut ? 9 : 0;
      labels_.push_back(
          {{x, top + edge, column_width_, y - top - edge}, "free", device.free, kFaint});
    }
    for (const Label& label : labels_) block_label(label);
    labels_.clear();
    if (column.cut) torn_edge(x, top);
    canvas_.line(x - 4, base_, x + column_width_ + 4, base_, "#1f2933", "stroke-width=\"1.5\"");
  }

  // Thin lines between the layers of a block, if these are high enough.
  void separators(const Box& box, std::uint64_t count) {
    const double each = box.height / static_cast<double>(count);
    if (count < 2 || each < 4) return;
    const double words = box.height >= kBothLines ? 17 : 9;  // no line is so near to the text
    for (std::uint64_t i = 1; i < count; ++i) {
      const double y = box.y + each * static_cast<double>(i);
      if (std::abs(y - (box.y + box.height / 2)) < words) continue;
      canvas_.line(box.x, y, box.x + box.width, y, "#ffffff",
                   "stroke-opacity=\"0.28\" stroke-width=\"0.8\"");
    }
  }

  void block_label(const Label& label) {
    const Box& box = label.box;
    if (box.height < 13) return;
    const double middle = box.y + box.height / 2;
    const bool both = box.height >= kBothLines;
    const double x = box.x + box.width / 2;
    const double room = box.width - 6;
    const double size = text_width(label.words, 11, true) <= room ? 11 : 9.5;
    canvas_.text(x, both ? middle - 3 : middle + 4, fitted(label.words, size, room, true),
                 {size, label.ink, "middle", true});
    if (both && label.bytes < kShownAsUnlimited) {
      canvas_.text(x, middle + 11, format_size(label.bytes), {10, label.ink, "middle", false});
    }
  }

  // Marks what exceeds the capacity: the column is as high as all that the plan puts there.
  void missing(const Column& column, double x, double y) {
    const double height = static_cast<double>(column.device->over) * column.pixels;
    canvas_.rect({x - 3, y, column_width_ + 6, height}, kMissing, "fill-opacity=\"0.42\"",
                 device_label(*column.device) + ": short by " + format_size(column.device->over));
    canvas_.line(x - 6, y + height, x + column_width_ + 6, y + height, kMissing,
                 "stroke-width=\"2\"");
    canvas_.text(x + column_width_ / 2, y - 5, "short " + format_size(column.device->over),
                 {11, kMissing, "middle", true});
  }

  void torn_edge(double x, double y) {
    std::string teeth = fmt::format("M{:.1f} {:.1f}", x - 2, y - 2);
    const int count = 8;
    for (int i = 0; i <= count; ++i) {
      teeth += fmt::format(" L{:.2f} {:.2f}", x + column_width_ * i / count, y + (i % 2 ? 7 : 1));
    }
    teeth += fmt::format(" L{:.1f} {:.1f} Z", x + column_width_ + 2, y - 2);
    canvas_.path(teeth, "#ffffff", "stroke=\"#ffffff\"");
  }

  void figures(const Column& column, double x) {
    const DeviceLedger& device = *column.device;
    const double middle = x + column_width_ / 2;
    canvas_.text(middle, base_ + 20, device_label(device), {14, "#1f2933", "middle", true});
    std::string size = device.capacity >= kShownAsUnlimited
                           ? "no limit"
                           : format_hundredths(gib_hundredths(device.capacity)) + " GiB";
    canvas_.text(middle, base_ + 36, size, {11, kFaint, "middle", false});
    if (column.times_smaller > 1.05) {
      canvas_.text(middle, base_ + 49, fmt::format("drawn {:.1f}x smaller", column.times_smaller),
                   {10, kMissing, "middle", false});
    } else if (column.cut) {
      canvas_.text(middle, base_ + 49, "free space is cut off", {10, kFaint, "middle", false});
    }
    double y = base_ + 66;
    const auto row = [&](const char* colour, const char* label, const std::string& value) {
      canvas_.rect({x, y - 8, 8, 8}, colour, colour == kFree ? "stroke=\"#b6bfca\"" : "");
      canvas_.text(x + 12, y, label, {10, kFaint, "start", false});
      canvas_.text(x + column_width_, y, value, {10, "#1f2933", "end", false});
      y += kRow;
    };
    const auto index = static_cast<std::size_t>(&device - planned_.plan.devices.data());
    const std::vector<std::int64_t> cells =
        ledger_row(device, weights_column(planned_.plan)[index]);
    row(weights_colour(device.kind, 0), "weights", format_hundredths(cells[2]));
    row(kKv, "KV cache", format_hundredths(cells[3]));
    row(kWorkspace, "workspace", format_hundredths(cells[4]));
    row(kReserved, "reserved", format_hundredths(cells[1]));
    if (device.over > 0) {
      row(kMissing, "missing", format_hundredths(-cells[5]));
    } else {
      row(kFree, "free", device.capacity >= kShownAsUnlimited ? "-" : format_hundredths(cells[5]));
    }
  }

  // Left half of the panel: the load peak of this plan and that of the plain way.
  void load_bars() {
    const LoadPeak& peak = planned_.plan.load_peak;
    const double half = (width_ - 2 * kMargin - 40) / 2;
    canvas_.line(kMargin, panel_ - 4, width_ - kMargin, panel_ - 4, "#d9dee5");
    canvas_.text(kMargin, panel_ + 20, "load peak: host RAM while loading",
                 {13, "#1f2933", "start", true});
    const double largest =
        static_cast<double>(std::max({peak.host_bytes, peak.naive_host_bytes, std::uint64_t{1}}));
    double y = panel_ + 34;
    const auto bar = [&](const char* label, std::uint64_t bytes, const char* colour) {
      constexpr double kLabel = 86;
      const std::string size = format_size(bytes);
      const double room = half - kLabel - text_width(size, 11) - 8;
      const double length =
          bytes == 0 ? 0 : std::max(1.5, room * static_cast<double>(bytes) / largest);
      canvas_.text(kMargin, y + 13, label, {11, kFaint, "start", false});
      canvas_.rect({kMargin + kLabel, y, length, 18}, colour);
      canvas_.text(kMargin + kLabel + length + 6, y + 13, size, {11, "#1f2933", "start", true});
      y += 26;
    };
    bar("this plan", peak.host_bytes, "#1b7f4b");
    bar("the plain way", peak.naive_host_bytes, "#b0553a");
  }

  // Right half: one bar that shows where the weights are after the load.
  void after_load() {
    const double half = (width_ - 2 * kMargin - 40) / 2;
    const double left = width_ - kMargin - half;
    canvas_.text(left, panel_ + 20, "after load: where the weights are",
                 {13, "#1f2933", "start", true});
    std::uint64_t total = 0;
    for (const Column& column : columns_) total += column.device->weights;
    if (total == 0) return;
    double x = left;
    double words = left;
    double line = panel_ + 70;
    const std::vector<std::int64_t> weights = weights_column(planned_.plan);
    std::size_t shade[3] = {};  // by kind
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const DeviceLedger& device = *columns_[i].device;
      if (device.weights == 0) continue;
      const double length = half * static_cast<double>(device.weights) / static_cast<double>(total);
      const char* colour =
          weights_colour(device.kind, shade[static_cast<std::size_t>(device.kind)]++);
      canvas_.rect({x, panel_ + 34, length, 18}, colour, "stroke=\"#ffffff\" stroke-width=\"0.8\"",
                   device_label(device) + ": " + format_size(device.weights));
      x += length;
      const std::string says = device_label(device) + " " + format_hundredths(weights[i]);
      const double wide = 14 + text_width(says, 11) + 12;
      if (words + wide > left + half && words > left) {
        words = left;
        line += 16;
      }
      canvas_.rect({words, line - 9, 9, 9}, colour);
      canvas_.text(words + 14, line, says, {11, "#1f2933", "start", false});
      words += wide;
    }
    canvas_.text(words, line, "GiB", {11, kFaint, "start", false});
  }

  const Planned& planned_;
  std::vector<Column> columns_;
  double column_width_;
  double width_;
  double base_;   // the line that columns stand on
  double panel_;  // the top of the panel under the columns
  SvgCanvas canvas_;
  std::vector<Label> labels_;  // of the column that is being drawn
};

}  // namespace

std::string plan_svg(const Planned& planned) { return Picture(planned).draw(); }

}  // namespace berth

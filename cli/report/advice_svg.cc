#include "cli/report/advice_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/report/advice_report.h"
#include "cli/report/plan_report.h"
#include "cli/report/svg_canvas.h"
#include "planner/base/join.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

constexpr double kWidth = 1000;
constexpr double kMargin = 32;
constexpr double kTop = 150;  // of the first row
constexpr double kRow = 30;
constexpr double kBar = 18;     // height of a bar
constexpr double kNames = 210;  // width of what is left of the bars
constexpr double kBars = 430;   // length of the longest bar
constexpr double kFigures = kMargin + kNames + kBars + 100;
constexpr const char* kOnGpus = "#2f5f9e";
constexpr const char* kSpilled = "#f2a33a";
constexpr const char* kWant = "#c62828";
constexpr const char* kInk = "#1f2933";
constexpr const char* kFaint = "#5b6673";
constexpr const char* kPale = "#d9dee5";

std::string tip_of(const Advice& advice, const AdviceRow& row) {
  std::string tip =
      machine_label(advice, row) + ", " + precision_label(row) + ": " + verdict_text(advice, row);
  for (const auto& [device, bytes] : row.spilled) {
    tip += ", " + format_size(bytes) + " on the " + device;
  }
  return tip;
}

class AdvicePicture {
 public:
  AdvicePicture(const Model& model, const Advice& advice)
      : model_(model),
        advice_(advice),
        bottom_(kTop + kRow * static_cast<double>(advice.rows.size())),
        canvas_(kWidth, bottom_ + 52, "What " + model.tree.name + " runs on") {
    most_ = advice.want.value_or(0);
    for (const AdviceRow& row : advice.rows) {
      if (row.fits) most_ = std::max(most_, row.tokens_per_second);
    }
  }

  std::string draw() {
    heading();
    for (std::size_t i = 0; i < advice_.rows.size(); ++i) {
      draw_row(advice_.rows[i], kTop + kRow * static_cast<double>(i));
    }
    draw_want();
    canvas_.text(kMargin, bottom_ + 28,
                 fitted("bars: tokens a second of all sequences together, to one scale from 0", 11,
                        kWidth - 2 * kMargin),
                 {11, kFaint, "start", false});
    return canvas_.take();
  }

 private:
  double length(double rate) const { return most_ > 0 ? kBars * rate / most_ : 0; }

  void heading() {
    const double room = kWidth - 2 * kMargin;
    canvas_.text(kMargin, 38, fitted(model_.tree.name, 22, room, true), {22, kInk, "start", true});
    canvas_.text(kMargin, 60, fitted(workload_text(advice_.workload), 12, room),
                 {12, kFaint, "start", false});
    canvas_.text(kMargin, 80, fitted(best_line(advice_), 13, room, true),
                 {13, kInk, "start", true});
    double x = kMargin;
    for (const auto& [colour, label] : {std::pair(kOnGpus, "all weights on gpus"),
                                        std::pair(kSpilled, "some on the cpu or disk")}) {
      canvas_.rect({x, 95, 12, 12}, colour);
      canvas_.text(x + 17, 105, label, {11, kInk, "start", false});
      x += 17 + text_width(label, 11) + 22;
    }
    const TextStyle head{10, kFaint, "start", false};
    canvas_.text(kFigures, kTop - 12, "first token", head);
    if (advice_.priced) canvas_.text(kFigures + 72, kTop - 12, "a million tokens", head);
  }

  void draw_row(const AdviceRow& row, double y) {
    const double line = y + kBar - 5;
    canvas_.text(kMargin, line, fitted(machine_label(advice_, row), 12, kNames - 90, true),
                 {12, kInk, "start", true});
    canvas_.text(kMargin + kNames - 84, line, fitted(precision_label(row), 11, 78),
                 {11, kFaint, "start", false});
    const double left = kMargin + kNames;
    canvas_.line(left, y - 4, left, y + kRow - 4, kPale);
    if (!row.error.empty() || !row.fits || row.tokens_per_second <= 0) {
      canvas_.text(left + 6, line,
                   fitted(verdict_text(advice_, row), 11, kWidth - kMargin - left - 6),
                   {11, row.fits ? kFaint : kWant, "start", false});
      return;
    }
    const bool reached = advice_.reaches(row);
    const double wide = std::max(1.0, length(row.tokens_per_second));
    canvas_.rect({left, y, wide, kBar}, row.spilled.empty() ? kOnGpus : kSpilled,
                 reached ? "" : "fill-opacity=\"0.45\"", tip_of(advice_, row));
    canvas_.text(left + wide + 6, line, rate_text(row.tokens_per_second),
                 {11, kInk, "start", reached});
    canvas_.text(kFigures, line, seconds_text(row.prefill_seconds), {11, kInk, "start", false});
    if (const auto million = million_price(row)) {
      const std::string currency = row.price->currency.empty() ? "" : " " + row.price->currency;
      canvas_.text(kFigures + 72, line, fitted(money_text(*million) + currency, 11, 110),
                   {11, kInk, "start", false});
    }
  }

  void draw_want() {
    if (!advice_.want) return;
    const double x = kMargin + kNames + length(*advice_.want);
    canvas_.line(x, kTop - 8, x, bottom_ - 2, kWant,
                 "stroke-width=\"1.5\" stroke-dasharray=\"5 4\"");
    canvas_.text(x, kTop - 14, "wanted: " + want_text(advice_), {10, kWant, "middle", false});
  }

  const Model& model_;
  const Advice& advice_;
  double bottom_;
  SvgCanvas canvas_;
  double most_ = 0;  // tokens a second of the longest bar
};

}  // namespace

std::string advice_svg(const Model& model, const Advice& advice) {
  return AdvicePicture(model, advice).draw();
}

}  // namespace berth

#include "cli/report/profile.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "planner/base/json_writer.h"

namespace berth {
namespace {

constexpr int kMeasured = 1;  // process ids
constexpr int kPlanned = 2;
constexpr std::uint32_t kPasses = 0;  // thread ids: that of a device is its index and one

std::uint32_t row_of(std::uint32_t device) { return device + 1; }

class Trace {
 public:
  Trace() { json_.begin_object().member("displayTimeUnit", "ms").key("traceEvents").begin_array(); }

  void name_process(int process, const char* name) { name_it("process_name", process, 0, name); }
  void name_row(int process, std::uint32_t row, const std::string& name) {
    name_it("thread_name", process, row, name);
  }

  // Something that takes time. `arguments` adds members that a viewer shows beside it.
  template <class Arguments>
  void add(int process, std::uint32_t row, const std::string& name, double begin, double end,
           const Arguments& arguments) {
    json_.begin_object().member("ph", "X").member("name", name);
    json_.member("pid", process).member("tid", row);
    json_.member("ts", microseconds(begin)).member("dur", microseconds(end - begin));
    json_.key("args").begin_object();
    arguments(json_);
    json_.end_object().end_object();
  }

  std::string take(const StepLog& log) {
    json_.end_array().key("otherData").begin_object();
    json_.member("steps_left_out", log.forgotten).end_object().end_object();
    return json_.take();
  }

 private:
  // To the nanosecond.
  static double microseconds(double seconds) { return std::round(seconds * 1e9) / 1e3; }

  void name_it(const char* what, int process, std::uint32_t row, const std::string& name) {
    json_.begin_object().member("ph", "M").member("name", what);
    json_.member("pid", process).member("tid", row);
    json_.key("args").begin_object().member("name", name).end_object().end_object();
  }

  JsonWriter json_{JsonForm::kCompact};
};

const auto kNoArguments = [](JsonWriter&) {};

// Steps of one layer on one device that follow one another are inside a slice for the layer.
void add_steps(const StepLog& log, Trace& trace) {
  for (std::size_t i = 0; i < log.events.size();) {
    const StepLog::Step& first = log.steps[log.events[i].step];
    std::size_t end = i + 1;
    const auto continues = [&](std::size_t next) {
      const StepLog::Step& step = log.steps[log.events[next].step];
      return step.layer == first.layer && step.device == first.device &&
             log.events[next].step > log.events[next - 1].step;
    };
    while (end < log.events.size() && continues(end)) ++end;
    if (first.layer >= 0) {
      trace.add(kMeasured, row_of(first.device), fmt::format("layer {}", first.layer),
                log.events[i].begin, log.events[end - 1].end, kNoArguments);
    }
    for (; i < end; ++i) {
      const StepLog::Event& event = log.events[i];
      trace.add(kMeasured, row_of(first.device), log.steps[event.step].name, event.begin, event.end,
                [&](JsonWriter& json) {
                  if (first.layer >= 0) json.member("layer", first.layer);
                });
    }
  }
}

void add_passes(const StepLog& log, Trace& trace) {
  for (std::size_t i = 0; i < log.passes.size(); ++i) {
    const StepLog::Pass& pass = log.passes[i];
    trace.add(kMeasured, kPasses, i < log.prompt_passes ? "prompt" : "token", pass.begin, pass.end,
              [&](JsonWriter& json) { json.member("tokens", pass.rows); });
  }
}

void add_planned(const Planned& planned, const Forecast& forecast, std::size_t decode_steps,
                 Trace& trace) {
  double at = 0;
  const auto add_pass = [&](const char* name, double Forecast::Unit::*seconds) {
    const double begin = at;
    std::vector<std::pair<double, double>> times;
    for (const Forecast::Unit& unit : forecast.units) at += unit.*seconds;
    trace.add(kPlanned, kPasses, name, begin, at, kNoArguments);
    double next = begin;
    for (const Forecast::Unit& unit : forecast.units) {
      const double start = std::exchange(next, next + unit.*seconds);
      trace.add(kPlanned, row_of(unit.device),
                std::string(planned.model.tree.modules[unit.module].name), start, next,
                kNoArguments);
    }
  };
  add_pass("prompt", &Forecast::Unit::prefill_seconds);
  for (std::size_t i = 0; i < decode_steps; ++i) {
    add_pass("token", &Forecast::Unit::seconds_per_token);
  }
}

}  // namespace

std::string profile_json(const Planned& planned, const std::optional<Forecast>& forecast,
                         const StepLog& log, std::size_t decode_steps) {
  Trace trace;
  const auto name_rows = [&](int process, const char* name,
                             const std::set<std::uint32_t>& devices) {
    trace.name_process(process, name);
    trace.name_row(process, kPasses, "passes");
    for (const std::uint32_t device : devices) {
      trace.name_row(process, row_of(device), device_label(planned.plan.devices[device]));
    }
  };
  std::set<std::uint32_t> devices;
  for (const StepLog::Step& step : log.steps) devices.insert(step.device);
  name_rows(kMeasured, "measured", devices);
  add_passes(log, trace);
  add_steps(log, trace);
  if (forecast) {
    devices.clear();
    for (const Forecast::Unit& unit : forecast->units) devices.insert(unit.device);
    name_rows(kPlanned, "planned", devices);
    add_planned(planned, *forecast, decode_steps, trace);
  }
  return trace.take(log);
}

}  // namespace berth

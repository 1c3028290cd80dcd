#include "cli/report/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cli/report/plan_report.h"
#include "planner/base/json_writer.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

struct Pair {
  std::optional<double> planned;
  std::optional<double> measured;
};

struct Figures {
  Pair first_token;  // seconds
  Pair rate;         // tokens/s
  Pair bytes;        // a token; what a run reads is worked out, not measured
  Pair share;        // of the rate that memory allows
};

std::optional<double> known(double value) {
  return value > 0 ? std::optional(value) : std::nullopt;
}

struct Tokens {
  std::uint64_t prompt = 0;
  std::uint64_t made = 0;
  std::uint64_t after_first = 0;  // the first new token of a sequence comes out of its prompt
};

Tokens count_tokens(const RunReport& report) {
  Tokens tokens;
  for (const Generated& sequence : report.sequences) {
    tokens.prompt += sequence.prompt_ids.size();
    tokens.made += sequence.new_ids.size();
    tokens.after_first += sequence.new_ids.empty() ? 0 : sequence.new_ids.size() - 1;
  }
  return tokens;
}

std::optional<double> rate_of(std::uint64_t tokens, double seconds) {
  if (tokens == 0 || seconds <= 0) return std::nullopt;
  return static_cast<double>(tokens) / seconds;
}

std::string rate_in_brackets(std::uint64_t tokens, double seconds) {
  const std::optional<double> rate = rate_of(tokens, seconds);
  return rate ? fmt::format(" ({:.1f} tokens/s)", *rate) : "";
}

Figures figures_of(const RunReport& report, const RunForecast& forecast) {
  Figures figures;
  figures.first_token.measured = known(report.prefill_seconds);
  figures.rate.measured = rate_of(count_tokens(report).after_first, report.decode_seconds);
  if (!forecast.forecast) return figures;
  const Forecast& planned = *forecast.forecast;
  figures.first_token.planned = known(planned.estimate.prefill_seconds);
  const auto sequences = static_cast<double>(report.sequences.size());
  if (planned.estimate.seconds_per_token > 0) {
    figures.rate.planned = sequences / planned.estimate.seconds_per_token;
  }
  figures.bytes.planned = known(planned.bytes_per_step / sequences);
  const auto share = [&](const std::optional<double>& rate) -> std::optional<double> {
    if (!rate || planned.limit_seconds_per_step <= 0) return std::nullopt;
    return *rate / sequences * planned.limit_seconds_per_step;
  };
  figures.share = {share(figures.rate.planned), share(figures.rate.measured)};
  return figures;
}

// A line of the comparison: what, planned, measured.
using Row = std::array<std::string, 3>;

template <class Show>
Row row_of(const char* what, const Pair& pair, const Show& show) {
  const auto cell = [&](const std::optional<double>& value) {
    return value ? show(*value) : std::string("-");
  };
  return {what, cell(pair.planned), cell(pair.measured)};
}

std::string aligned(const std::vector<Row>& rows) {
  std::array<std::size_t, 3> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    text += fmt::format("{:<{}}  {:>{}}  {:>{}}\n", row[0], widths[0], row[1], widths[1], row[2],
                        widths[2]);
  }
  return text;
}

std::string comparison(const RunReport& report, const RunForecast& forecast) {
  const Figures figures = figures_of(report, forecast);
  std::string text =
      aligned({{"", "PLANNED", "MEASURED"},
               row_of("first token", figures.first_token, seconds_text),
               row_of("tokens/s", figures.rate, rate_text),
               row_of("bytes a token", figures.bytes,
                      [](double bytes) { return format_size(static_cast<std::uint64_t>(bytes)); }),
               row_of("share of the limit", figures.share,
                      [](double share) { return fmt::format("{:.0f} %", 100 * share); })});
  if (forecast.forecast && forecast.forecast->limit_seconds_per_step > 0) {
    const auto sequences = static_cast<double>(report.sequences.size());
    text += fmt::format("limit       {} tokens/s, if nothing but memory took time\n",
                        rate_text(sequences / forecast.forecast->limit_seconds_per_step));
  }
  if (!forecast.forecast) {
    text += note_line("nothing is planned to compare with: " + forecast.why_not);
  } else if (!forecast.calibrated) {
    text += note_line(
        "uncalibrated: what is planned rests on default speeds, not on those of the kernels here; "
        "run `berth calibrate` to measure them");
  }
  return text;
}

}  // namespace

RunForecast forecast_of(const Planned& planned, const Machine& here, const RunReport& report,
                        bool emulated) {
  RunForecast out;
  if (emulated) {
    out.why_not = "the plan's GPUs were emulated in host memory";
    return out;
  }
  Workload workload = planned.plan.workload;
  const Tokens tokens = count_tokens(report);
  const std::uint64_t sequences = std::max<std::uint64_t>(1, report.sequences.size());
  workload.prompt_tokens = tokens.prompt / sequences;
  workload.new_tokens = tokens.made / sequences;
  out.forecast = forecast(planned.model.tree, here, planned.plan, workload);
  if (!out.forecast) {
    out.why_not =
        "the plan is for other devices than there are here, or the model's facts are "
        "not known";
    return out;
  }
  out.calibrated = true;
  for (const Forecast::Unit& unit : out.forecast->units) {
    const Device* const device = here.find(planned.plan.devices[unit.device].name);
    if (device != nullptr && device->kind == DeviceKind::kCpu) {
      out.calibrated = out.calibrated && !device->kernels.products.empty();
    }
  }
  return out;
}

std::string run_report(const Plan& plan, const RunReport& report, const RunForecast& forecast) {
  const Tokens tokens = count_tokens(report);
  const std::string of =
      report.sequences.size() == 1 ? "" : fmt::format(" of {} sequences", report.sequences.size());
  std::string out =
      fmt::format("prompt      {} tokens{} in {:.3f} s{}\n", tokens.prompt, of,
                  report.prefill_seconds, rate_in_brackets(tokens.prompt, report.prefill_seconds));
  out += fmt::format("new         {} tokens{}{}\n", tokens.made, of,
                     rate_in_brackets(tokens.after_first, report.decode_seconds));
  out += fmt::format("kernels     {}\n", report.kernels);
  out += fmt::format("hops        {} between devices, each forward pass\n", report.hops);
  return out + comparison(report, forecast) + device_spread(plan);
}

std::size_t decode_steps(const RunReport& report) {
  std::size_t longest = 0;
  for (const Generated& sequence : report.sequences) {
    longest = std::max(longest, sequence.new_ids.size());
  }
  return longest == 0 ? 0 : longest - 1;
}

namespace {

void write_sequence(JsonWriter& json, const Generated& sequence) {
  json.key("prompt_ids").begin_array();
  for (const std::int64_t id : sequence.prompt_ids) json.value(id);
  json.end_array();
  json.key("new_ids").begin_array();
  for (const std::int64_t id : sequence.new_ids) json.value(id);
  json.end_array();
  json.member("text", sequence.text);
}

}  // namespace

std::string run_json(const RunReport& report, const RunForecast& forecast) {
  JsonWriter json;
  json.begin_object();
  if (report.sequences.size() == 1) {
    write_sequence(json, report.sequences.front());
  } else {
    json.key("sequences").begin_array();
    for (const Generated& sequence : report.sequences) {
      json.begin_object();
      write_sequence(json, sequence);
      json.end_object();
    }
    json.end_array();
  }
  json.member("kernels", report.kernels);
  json.member("calibrated", forecast.calibrated);
  const Figures figures = figures_of(report, forecast);
  const auto write = [&](const char* key, const Pair& pair) {
    json.key(key).begin_object();
    for (const auto& [name, value] :
         {std::pair("planned", pair.planned), std::pair("measured", pair.measured)}) {
      json.key(name);
      value ? json.value(*value) : json.null();
    }
    json.end_object();
  };
  write("first_token_seconds", figures.first_token);
  write("tokens_per_second", figures.rate);
  write("bytes_per_token", figures.bytes);
  write("share_of_limit", figures.share);
  json.end_object();
  return json.take();
}

}  // namespace berth

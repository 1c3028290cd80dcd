#include "cli/loading_compared.h"

#include <fmt/format.h>

#include <fstream>
#include <string_view>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/loading.h"
#include "cli/process/child.h"
#include "cli/process/interrupt.h"
#include "cli/process/runtime_library.h"
#include "cli/report/table.h"
#include "planner/base/json_value.h"
#include "planner/machine/sizes.h"
#include "planner/model/open/companions.h"
#include "runtime/load/naive.h"

namespace berth {
namespace {

Measured measure_naive(const Options& options) {
  const Model model =
      open_model(options.model, options.settings.dtype.value_or(DTypeChoice{}).dtype,
                 wants_plain(options), wants_prediction(options));
  const NaiveReport report = loader_library().load_naively(model);
  return {report.seconds,   report.host_peak_bytes, report.before.rss,
          report.after.rss, report.after.anonymous, report.after.file};
}

Measured measure_frugal(const Options& options) {
  const Planned planned = make_planned(options);
  if (!planned.plan.fits()) throw Error(shortfall_sentence(planned.plan));
  const InterruptGuard interrupt;
  const std::unique_ptr<LoadedModel> loaded = load_by_plan(options, planned, interrupt.flag());
  const LoadReport& report = loaded->report();
  return {report.seconds,   report.host_peak_bytes, report.before.rss,
          report.after.rss, report.after.anonymous, report.after.file};
}

void write_measured(JsonWriter& json, const Measured& measured) {
  json.member("seconds", measured.seconds)
      .member("host_peak_bytes", measured.host_peak_bytes)
      .member("rss_before", measured.rss_before)
      .member("rss_after", measured.rss_after)
      .member("anonymous_after", measured.anonymous_after)
      .member("file_after", measured.file_after);
}

Measured parse_measured(const std::string& text) {
  const JsonDocument document(text, "the measuring process");
  const JsonValue root = document.root();
  const auto bytes = [&](std::string_view key) {
    const auto value = root.find<std::uint64_t>(key);
    if (!value) throw Error("the measuring process did not answer with figures");
    return *value;
  };
  Measured measured;
  const auto seconds = root.find<double>("seconds");
  if (!seconds) throw Error("the measuring process did not answer with figures");
  measured.seconds = *seconds;
  measured.host_peak_bytes = bytes("host_peak_bytes");
  measured.rss_before = bytes("rss_before");
  measured.rss_after = bytes("rss_after");
  measured.anonymous_after = bytes("anonymous_after");
  measured.file_after = bytes("file_after");
  return measured;
}

// Reads all shards once, so that every measured load finds them in the page cache and the order of
// the loads makes no difference. A file that cannot be read is ignored here; the load reports it.
void warm_page_cache(const Model& model) {
  std::vector<char> buffer(std::size_t{4} << 20);
  for (const Shard& shard : model.checkpoint->shards) {
    std::ifstream file(shard.path, std::ios::binary);
    while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()))) {
    }
  }
}

Measured measure_in_child(const Options& options, const Model& model, const std::string& what) {
  warm_page_cache(model);
  std::vector<std::string> arguments = options.arguments;
  arguments.insert(arguments.end(), {"--measure", what});
  const ChildResult child = run_self(arguments);
  if (child.exit_code == 0) return parse_measured(child.out);
  if (child.exit_code > 128) {
    throw Error(fmt::format("the process that measured the {} load was ended by signal {}", what,
                            child.exit_code - 128));
  }
  std::string_view why = child.talk;
  const std::string_view prefix = "error: ";
  if (why.substr(0, prefix.size()) == prefix) why.remove_prefix(prefix.size());
  while (!why.empty() && why.back() == '\n') why.remove_suffix(1);
  throw Error(fmt::format("measuring the {} load: {}", what, why));
}

bool maps_weights(const Plan& plan) {
  if (plan.cpu_memory != CpuMemory::kMmap) return false;
  for (const DeviceLedger& device : plan.devices) {
    if (device.kind == DeviceKind::kCpu && device.weights > 0) return true;
  }
  return false;
}

double percent_saved(const Measured& naive, const Measured& other) {
  if (naive.host_peak_bytes == 0) return 0;
  return (1 -
          static_cast<double>(other.host_peak_bytes) / static_cast<double>(naive.host_peak_bytes)) *
         100;
}

// Bytes below the plain way's peak; negative where it took more.
std::int64_t bytes_saved(const Measured& naive, const Measured& other) {
  return static_cast<std::int64_t>(naive.host_peak_bytes) -
         static_cast<std::int64_t>(other.host_peak_bytes);
}

void add_row(Table& table, const std::string& name, const Measured& naive, const Measured& row) {
  const bool self = &naive == &row;
  const std::int64_t saved = bytes_saved(naive, row);
  const std::string size = fmt::format("{}{}", saved < 0 ? "-" : "",
                                       format_size(static_cast<std::uint64_t>(std::abs(saved))));
  table.add({name, format_size(row.host_peak_bytes), format_size(row.anonymous_after),
             format_size(row.file_after), fmt::format("{:.3f} s", row.seconds),
             self ? "-" : fmt::format("{} ({:.1f} %)", size, percent_saved(naive, row))});
}

}  // namespace

std::string measure_here(const Options& options) {
  Options own = options;
  if (options.measure == Measure::kPrivate) own.settings.cpu_memory = CpuMemory::kPrivate;
  JsonWriter json;
  json.begin_object();
  write_measured(json,
                 options.measure == Measure::kNaive ? measure_naive(own) : measure_frugal(own));
  json.end_object();
  return json.take();
}

Comparison compare_with_naive(const Options& options, const Planned& planned) {
  Comparison comparison;
  const Machine now = probe_machine(folder_of(planned.model));
  const std::uint64_t free = now.host_capacity();
  const std::uint64_t needed = planned.plan.load_peak.naive_host_bytes;
  if (free > 0 && needed > free) {
    comparison.skipped = fmt::format("the plain way needs {} of host memory and {} are free",
                                     format_size(needed), format_size(free));
    return comparison;
  }
  comparison.naive = measure_in_child(options, planned.model, "naive");
  comparison.frugal = measure_in_child(options, planned.model, "frugal");
  if (maps_weights(planned.plan))
    comparison.private_ = measure_in_child(options, planned.model, "private");
  return comparison;
}

std::string comparison_report(const Comparison& comparison) {
  if (!comparison.skipped.empty()) {
    return fmt::format("\nthe plain way was not measured: {}\n", comparison.skipped);
  }
  Table table({"LOAD", "PEAK", "ANONYMOUS AFTER", "MAPPED AFTER", "TIME", "SAVED AT THE PEAK"});
  add_row(table, "the plain way", comparison.naive, comparison.naive);
  add_row(table, "frugal, as asked", comparison.naive, comparison.frugal);
  if (comparison.private_) {
    add_row(table, "frugal, private memory", comparison.naive, *comparison.private_);
  }
  return "\nEach in a fresh process, page cache warm:\n" + table.text();
}

void write_comparison(JsonWriter& json, const Comparison& comparison) {
  json.key("naive").begin_object();
  if (!comparison.skipped.empty()) {
    json.member("skipped", comparison.skipped);
    json.end_object();
    return;
  }
  write_measured(json, comparison.naive);
  json.key("frugal").begin_object();
  write_measured(json, comparison.frugal);
  json.end_object();
  if (comparison.private_) {
    json.key("frugal_private").begin_object();
    write_measured(json, *comparison.private_);
    json.end_object();
  }
  json.member("saved_bytes", bytes_saved(comparison.naive, comparison.frugal))
      .member("saved_percent", percent_saved(comparison.naive, comparison.frugal));
  json.end_object();
}

}  // namespace berth

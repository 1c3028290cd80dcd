#include "cli/report/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/report/plan_report.h"
#include "cli/report/table.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

std::string label(const DeviceLoad& device) {
  std::string name = is_gpu(device.kind) ? "gpu " + device.name : device.name;
  if (device.emulated) name += " (emulated)";
  return name;
}

bool loaded_on_gpu(const LoadReport& report) {
  return std::any_of(report.devices.begin(), report.devices.end(), [](const DeviceLoad& device) {
    return is_gpu(device.kind) && device.loaded > 0 && !device.emulated;
  });
}

bool emulated(const LoadReport& report) {
  return std::any_of(report.devices.begin(), report.devices.end(),
                     [](const DeviceLoad& device) { return device.emulated && device.loaded > 0; });
}

std::string memory_text(const HostMemory& memory) {
  return fmt::format("{} (anonymous {}, mapped files {}, shared {})", format_size(memory.rss),
                     format_size(memory.anonymous), format_size(memory.file),
                     format_size(memory.shared));
}

// Says how much was read and how fast, how much was only mapped, and how much of that is in RAM.
std::string speed_lines(const LoadReport& report) {
  std::string out =
      fmt::format("read        {} in {:.3f} s", format_size(report.bytes_read), report.seconds);
  if (report.bytes_read > 0 && report.seconds > 0) {
    out += fmt::format(" ({:.2f} GB/s)",
                       static_cast<double>(report.bytes_read) / report.seconds / 1e9);
  }
  out += "\n";
  if (report.bytes_mapped > 0) {
    out += fmt::format("mapped      {}, of which {} resident; the rest is read when first used\n",
                       format_size(report.bytes_mapped), format_size(report.bytes_mapped_resident));
  }
  if (report.bytes_offloaded > 0) {
    out += fmt::format("offloaded   {}, converted, to the offload folder\n",
                       format_size(report.bytes_offloaded));
  }
  if (report.tensors_verified > 0) {
    out += fmt::format("verified    {} tensors against their checksums\n", report.tensors_verified);
  }
  return out;
}

std::string device_lines(const LoadReport& report) {
  Table table({"AFTER LOAD", "PLANNED BYTES", "MEASURED BYTES", ""});
  std::string gpus;
  for (const DeviceLoad& device : report.devices) {
    table.add({label(device), with_commas(device.planned), with_commas(device.loaded),
               device.planned == device.loaded ? "" : "differs"});
    if (is_gpu(device.kind) && !device.emulated && device.gpu_used_after > 0) {
      gpus += fmt::format("gpu memory  {} used before {}, after {} (whole device)\n", label(device),
                          format_size(device.gpu_used_before), format_size(device.gpu_used_after));
    }
  }
  return table.text() + gpus;
}

std::string plain_words(const LoadReport& report) {
  std::string out;
  if (emulated(report)) {
    out += "emulated GPUs live in host memory: this was a rehearsal\n";
  }
  if (!loaded_on_gpu(report)) {
    out += "nothing is on a GPU: loading frugally has not put the model on one\n";
  }
  return out;
}

}  // namespace

std::string load_report(const Planned& planned, const LoadReport& report, bool verbose) {
  std::string out = model_line(planned.model);
  out += fmt::format("tensors     {}\n", report.tensors) + speed_lines(report);
  out += fmt::format("rss before  {}\nrss after   {}\n", memory_text(report.before),
                     memory_text(report.after));
  out += fmt::format("load peak   host RAM {} measured, {} planned (the plain way: {})\n",
                     format_size(report.host_peak_bytes), format_size(report.planned_peak_bytes),
                     format_size(planned.plan.load_peak.naive_host_bytes));
  out += fmt::format("\n{}\n", device_lines(report));
  // Only the first three shards are listed, because most shards of a model are read in the same
  // way.
  const std::size_t shown = verbose ? report.io_choices.size() : 3;
  for (std::size_t i = 0; i < report.io_choices.size() && i < shown; ++i) {
    out += fmt::format("io          {}\n", report.io_choices[i]);
  }
  if (report.io_choices.size() > shown) {
    out += fmt::format("            and {} more (--verbose)\n", report.io_choices.size() - shown);
  }
  for (const auto* notes : {&planned.model.tree.notes, &report.notes}) {
    for (const std::string& note : *notes) out += fmt::format("note        {}\n", note);
  }
  return out + plain_words(report);
}

std::string short_load_report(const LoadReport& report) {
  std::vector<std::string> places;
  for (const DeviceLoad& device : report.devices) {
    if (device.loaded > 0) places.push_back(label(device) + " " + format_size(device.loaded));
  }
  std::string out =
      fmt::format("loaded in {:.3f} s; load peak {} (planned {}); after load {}\n", report.seconds,
                  format_size(report.host_peak_bytes), format_size(report.planned_peak_bytes),
                  fmt::format("{}", fmt::join(places, ", ")));
  for (const std::string& note : report.notes) out += fmt::format("note: {}\n", note);
  return out + plain_words(report);
}

void write_load(JsonWriter& json, const LoadReport& report) {
  json.key("after_load").begin_object();
  for (const DeviceLoad& device : report.devices) json.member(device.name, device.loaded);
  json.end_object();
  json.key("measured").begin_object();
  json.member("seconds", report.seconds)
      .member("bytes_read", report.bytes_read)
      .member("host_peak_bytes", report.host_peak_bytes)
      .member("host_mapped_bytes", report.bytes_mapped)
      .member("host_mapped_resident_bytes", report.bytes_mapped_resident)
      .member("rss_before", report.before.rss)
      .member("rss_after", report.after.rss)
      .member("tensors", report.tensors)
      .member("tensors_verified", report.tensors_verified)
      .member("offloaded_bytes", report.bytes_offloaded);
  json.key("gpu").begin_object();
  for (const DeviceLoad& device : report.devices) {
    if (!is_gpu(device.kind)) continue;
    json.key(device.name).begin_object();
    json.member("emulated", device.emulated)
        .member("used_before", device.gpu_used_before)
        .member("used_after", device.gpu_used_after);
    json.end_object();
  }
  json.end_object();
  json.key("io").begin_array();
  for (const std::string& choice : report.io_choices) json.value(choice);
  json.end_array().key("notes").begin_array();
  for (const std::string& note : report.notes) json.value(note);
  json.end_array().end_object();
}

}  // namespace berth

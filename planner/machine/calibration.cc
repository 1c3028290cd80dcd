#include "planner/machine/calibration.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <system_error>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/machine/probe.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

std::string label(const Device& device) {
  return is_gpu(device.kind) ? "gpu " + device.name : device.name;
}

// True if both texts are known and differ.
bool differ(const std::string& then, const std::string& now) {
  return !then.empty() && !now.empty() && printable(then, 4096) != printable(now, 4096);
}

bool same_file_system(const fs::path& a, const fs::path& b) {
  struct stat facts_a {};
  struct stat facts_b {};
  return ::stat(a.c_str(), &facts_a) == 0 && ::stat(b.c_str(), &facts_b) == 0 &&
         facts_a.st_dev == facts_b.st_dev;
}

// The measured device that is `device`; if there is none, null, and the reason in `why`.
const Device* find_measured(const Machine& measured, const Here& here, const Device& device,
                            std::string& why) {
  if (!device.uuid.empty()) {
    const auto same = std::find_if(measured.devices.begin(), measured.devices.end(),
                                   [&](const Device& other) { return other.uuid == device.uuid; });
    if (same != measured.devices.end()) return &*same;
  }
  const Calibrated from = measured.calibrated.value_or(Calibrated{});
  const Device* other = measured.find(device.name);
  if (!other) {
    why = "not measured";
    return nullptr;
  }
  switch (device.kind) {
    case DeviceKind::kCuda:
    case DeviceKind::kOther:
      if (differ(other->description, device.description))
        why = printable(other->description) + " was measured";
      else if (differ(other->uuid, device.uuid))
        why = "another one of its kind was measured";
      break;
    case DeviceKind::kCpu:
      if (differ(other->description, device.description))
        why = printable(other->description) + " was measured";
      else if (from.threads != 0 && from.threads != here.threads)
        why = "measured on " + std::to_string(from.threads) + " CPUs, " +
              std::to_string(here.threads) + " may be used now";
      break;
    case DeviceKind::kDisk:
      if (differ(from.host, here.host))
        why = "measured on host " + from.host;
      else if (!other->description.empty() &&
               !same_file_system(other->description, device.description))
        why = "that of " + printable(other->description) + " was measured";
      break;
  }
  return why.empty() ? other : nullptr;
}

void take_rates(const Device& measured, Device& device) {
  if (measured.memory_bandwidth > 0) device.memory_bandwidth = measured.memory_bandwidth;
  if (measured.flops > 0) device.flops = measured.flops;
  if (!measured.matvec.empty()) device.matvec = measured.matvec;
  if (measured.kernels != KernelRates{}) device.kernels = measured.kernels;
}

void take_link(const Link& measured, Machine& machine) {
  for (Link& link : machine.links) {
    if (link.from != measured.from || link.to != measured.to) continue;
    link.bandwidth = measured.bandwidth;
    if (measured.latency > 0) link.latency = measured.latency;
    return;
  }
  machine.links.push_back(measured);
}

const char* const kAdvice = "run `berth calibrate`";

}  // namespace

fs::path calibration_file() {
  if (const char* file = std::getenv("BERTH_MACHINE_FILE")) return file;
  const char* config = std::getenv("XDG_CONFIG_HOME");
  // The XDG specification: a path that is not absolute is to be ignored.
  if (config && fs::path(config).is_absolute()) return fs::path(config) / "berth/machine.yaml";
  const char* home = std::getenv("HOME");
  if (!home || !*home) return {};
  return fs::path(home) / ".config/berth/machine.yaml";
}

Here this_host() {
  std::array<char, 256> name{};
  const bool known = ::gethostname(name.data(), name.size() - 1) == 0;
  return {known ? name.data() : "", usable_cpus()};
}

std::string apply_calibration(const Machine& measured, const Here& here, Machine& machine) {
  std::map<std::string, std::string> name_now;  // by the name when measured
  std::vector<std::string> defaults;
  for (Device& device : machine.devices) {
    std::string why;
    const Device* other = find_measured(measured, here, device, why);
    if (other) {
      take_rates(*other, device);
      name_now[other->name] = device.name;
    } else {
      defaults.push_back(label(device) + " (" + why + ")");
    }
  }
  for (Link link : measured.links) {
    const auto from = name_now.find(link.from);
    const auto to = name_now.find(link.to);
    if (from == name_now.end() || to == name_now.end()) continue;
    link.from = from->second;
    link.to = to->second;
    take_link(link, machine);
  }
  std::string origin = "from " + measured.source;
  if (measured.calibrated) {
    origin = "measured by berth calibrate";
    if (!measured.calibrated->date.empty()) origin += " on " + measured.calibrated->date;
  }
  std::string sentence = "speeds " + origin;
  if (name_now.empty()) sentence = "default speeds: no device is one of those " + origin;
  if (!defaults.empty()) {
    sentence += name_now.empty() ? ": " : "; default speeds for ";
    sentence += join(defaults, ", ") + "; " + kAdvice + " again";
  }
  return sentence;
}

std::string use_calibration(Machine& machine) {
  const char* named = std::getenv("BERTH_MACHINE_FILE");
  const fs::path file = calibration_file();
  std::error_code ignored;
  if (named && *named) return apply_calibration(read_machine_file(file), this_host(), machine);
  if (file.empty() || !fs::exists(file, ignored))
    return std::string("default speeds: ") + kAdvice + " to measure this machine";
  try {
    return apply_calibration(read_machine_file(file), this_host(), machine);
  } catch (const Error& error) {
    return std::string("default speeds: ") + error.what() + "; " + kAdvice + " again";
  }
}

}  // namespace berth

#include "planner/machine/named_machine.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "berth/configs.h"
#include "berth/error.h"
#include "planner/base/error_kinds.h"
#include "planner/base/join.h"
#include "planner/base/near_miss.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMostGpus = 64;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) && !fs::is_directory(path, ignored);
}

// As read_machine_file() looks for a bare name.
bool is_machine(const std::string& name) {
  const fs::path folder = find_config_dir() / "hardware";
  return is_file(name) || is_file(folder / name) || is_file(folder / (name + ".yaml"));
}

// "4xh100".
struct Several {
  unsigned count = 0;
  std::string of;
};

std::optional<Several> several(const std::string& name) {
  Several out;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, out.count);
  if (error != std::errc() || stop == end || *stop != 'x' || stop + 1 == end) return std::nullopt;
  if (name[0] == '0') return std::nullopt;
  out.of.assign(stop + 1, end);
  return out;
}

// `machine`, which has one GPU, with `count` of it.
Machine multiplied(Machine machine, unsigned count) {
  const auto gpu = std::ranges::find_if(machine.devices, is_gpu, &Device::kind);
  const Device one = *gpu;
  std::vector<Device> devices;
  for (unsigned i = 0; i < count; ++i) {
    Device& copy = devices.emplace_back(one);
    copy.name = std::to_string(i);
    copy.uuid.clear();
  }
  machine.devices.erase(gpu);
  machine.devices.insert(machine.devices.begin(), devices.begin(), devices.end());
  std::vector<Link> links;
  for (const Link& link : machine.links) {
    if (link.from != one.name && link.to != one.name) {
      links.push_back(link);
      continue;
    }
    for (const Device& device : devices) {
      Link& copy = links.emplace_back(link);
      (link.from == one.name ? copy.from : copy.to) = device.name;
    }
  }
  machine.links = std::move(links);
  if (machine.price) machine.price->an_hour *= count;
  return machine;
}

// Throws the Error for a bare name that means nothing: the nearest name, and all that there are.
[[noreturn]] void fail_unknown(const std::string& name, const std::optional<Several>& wanted) {
  const std::vector<std::string> known = machine_names();
  std::optional<std::string> near = wanted ? nearest(wanted->of, known) : std::nullopt;
  near = near ? std::to_string(wanted->count) + "x" + *near : nearest(name, known);
  const std::string hint = near ? "did you mean " + quote(*near) + "? " : "";
  throw NoSuchName(printable(name) + ": no such machine file, neither here nor in " +
                   (find_config_dir() / "hardware").string() + " (" + hint +
                   "there: " + join(known, ", ") + ")");
}

}  // namespace

Machine read_named_machine(const fs::path& name) {
  const std::string text = name.string();
  const bool bare = !text.empty() && name == name.filename();
  if (!bare || is_machine(text)) return read_machine_file(name);
  const auto wanted = several(text);
  if (!wanted || !is_machine(wanted->of)) fail_unknown(text, wanted);
  const Machine one = read_machine_file(wanted->of);
  const auto gpus = std::ranges::count_if(one.devices, is_gpu, &Device::kind);
  if (gpus != 1) {
    throw NoSuchName(printable(text) + ": no such machine file, and " + printable(wanted->of) +
                     " has " + std::to_string(gpus) +
                     " GPUs; only of a machine with one can there be several");
  }
  if (wanted->count > kMostGpus) {
    throw Error(printable(text) + ": at most " + std::to_string(kMostGpus) + " GPUs");
  }
  Machine machine = multiplied(one, wanted->count);
  machine.source = text;
  std::string note = text + " is no machine file: assumed is the machine " + wanted->of + " with " +
                     std::to_string(wanted->count) +
                     " of its GPU, each with its link to the host, and no links between them";
  if (machine.price) note += ", for " + std::to_string(wanted->count) + " times the price";
  machine.notes.push_back(std::move(note));
  return machine;
}

std::vector<std::string> machine_names() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (fs::directory_iterator it(find_config_dir() / "hardware", ignored), end;
       !ignored && it != end; it.increment(ignored)) {
    if (it->path().extension() == ".yaml") names.push_back(it->path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace berth

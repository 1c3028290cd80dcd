#include "planner/machine/cgroup.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace berth {
namespace {

namespace fs = std::filesystem;

// Version 1 says "no limit" as the largest multiple of the page size below 2^63.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 60;

struct CgroupMount {
  fs::path root;   // the group that the mount point shows
  fs::path point;  // the folder that it is mounted at
  bool v2 = false;
};

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest = text.substr(static_cast<std::size_t>(stop - text.data()));
  if (error != std::errc() || rest.find_first_not_of(" \t\r\n") != std::string_view::npos)
    return std::nullopt;
  return number;
}

std::optional<std::uint64_t> read_number(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  if (!std::getline(stream, line)) return std::nullopt;
  return to_number(line);  // "max" is no number and so no limit
}

// Removes the first word of a line and returns it.
std::string_view next_word(std::string_view& line) {
  constexpr std::string_view kBlanks = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kBlanks));
  line.remove_prefix(word.size());
  return word;
}

// The value of `key` in a file of "key value" or "key: value kB" lines.
std::optional<std::uint64_t> read_key(const fs::path& file, std::string_view key) {
  std::ifstream stream(file);
  std::string line;
  while (std::getline(stream, line)) {
    std::string_view rest = line;
    std::string_view name = next_word(rest);
    if (!name.empty() && name.back() == ':') name.remove_suffix(1);
    if (name != key) continue;
    const auto number = to_number(next_word(rest));
    if (!number || *number > kNoLimit) return std::nullopt;
    return next_word(rest) == "kB" ? std::min(*number, kNoLimit >> 10) << 10 : *number;
  }
  return std::nullopt;
}

// mountinfo writes spaces, tabs, line ends and backslashes as three octal digits.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Whether a list like "rw,memory" has `word`.
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

// The mounts of version 2, and those of version 1 that have `controller`.
std::vector<CgroupMount> read_mounts(const fs::path& mountinfo, std::string_view controller) {
  std::vector<CgroupMount> mounts;
  std::ifstream stream(mountinfo);
  std::string line;
  while (std::getline(stream, line)) {
    // id parent major:minor root point options [tags...] - type source super-options
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::string_view front = std::string_view(line).substr(0, dash);
    std::string_view back = std::string_view(line).substr(dash + 3);
    const std::string_view type = next_word(back);
    next_word(back);
    const std::string_view options = next_word(back);
    for (int i = 0; i < 3; ++i) next_word(front);
    const std::string_view root = next_word(front);
    const std::string_view point = next_word(front);
    const bool v2 = type == "cgroup2";
    if (!v2 && (type != "cgroup" || !lists(options, controller))) continue;
    mounts.push_back({unescape(root), unescape(point), v2});
  }
  return mounts;
}

// The group of this process in the hierarchy of version 2, or of version 1's `controller`.
std::optional<fs::path> read_group(const fs::path& cgroup, bool v2, std::string_view controller) {
  std::ifstream stream(cgroup);
  std::string line;
  while (std::getline(stream, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool match =
        v2 ? line.substr(0, first) == "0" && controllers.empty() : lists(controllers, controller);
    if (match) return fs::path(line.substr(second + 1));
  }
  return std::nullopt;
}

// The path of `group` relative to `root`; nullopt if it is not below that.
std::optional<fs::path> below(const fs::path& group, const fs::path& root) {
  const fs::path relative = group.lexically_relative(root);
  if (relative.empty() || *relative.begin() == "..") return std::nullopt;
  for (const fs::path& name : group)
    if (name == "..") return std::nullopt;
  return relative == "." ? fs::path() : relative;
}

// Narrows `memory` to a limit of `limit` bytes, of which used() are taken. No limit changes
// nothing.
template <class Used>
void apply(HostLimits& memory, std::optional<std::uint64_t> limit, const Used& used,
           const fs::path& file) {
  if (!limit || *limit >= kNoLimit) return;
  memory.total = std::min(memory.total, *limit);
  const std::uint64_t left = *limit - std::min(*limit, used());
  if (left >= memory.available) return;
  memory.available = left;
  memory.limited_by = file.string();
}

// The bytes that a group holds and cannot drop: its usage less its page cache and, where the kernel
// reports it, less its reclaimable slab. tmpfs and shared memory stay in, as the kernel does not
// count them among the file pages.
std::uint64_t held(const fs::path& folder, const char* usage, const char* inactive,
                   const char* active, const char* slab) {
  const fs::path stat = folder / "memory.stat";
  const std::uint64_t used = read_number(folder / usage).value_or(0);
  std::uint64_t droppable =
      read_key(stat, inactive).value_or(0) + read_key(stat, active).value_or(0);
  if (slab) droppable += read_key(stat, slab).value_or(0);
  return used - std::min(used, droppable);
}

void apply_folder(HostLimits& memory, const fs::path& folder, bool v2) {
  if (v2) {
    const auto used = [&] {
      return held(folder, "memory.current", "inactive_file", "active_file", "slab_reclaimable");
    };
    for (const char* name : {"memory.max", "memory.high"})
      apply(memory, read_number(folder / name), used, folder / name);
    return;
  }
  const auto used = [&] {
    return held(folder, "memory.usage_in_bytes", "total_inactive_file", "total_active_file",
                nullptr);
  };
  const fs::path limit = folder / "memory.limit_in_bytes";
  apply(memory, read_number(limit), used, limit);
  // The smallest limit of all ancestors, also of those that a container does not show.
  const fs::path stat = folder / "memory.stat";
  apply(memory, read_key(stat, "hierarchical_memory_limit"), used, stat);
}

// Calls `visit(folder, v2)` for the folder of each group that holds this process, from the mount's
// own group down. If the process's group lies outside the mount, the mount's own group is the only
// one.
template <class Visit>
void visit_groups(const fs::path& root, std::string_view controller, Visit visit) {
  const std::vector<CgroupMount> mounts = read_mounts(root / "proc/self/mountinfo", controller);
  for (const bool v2 : {false, true}) {
    const auto group = read_group(root / "proc/self/cgroup", v2, controller);
    if (!group) continue;
    const bool shown = std::any_of(mounts.begin(), mounts.end(), [&](const CgroupMount& mount) {
      return mount.v2 == v2 && below(*group, mount.root);
    });
    for (const CgroupMount& mount : mounts) {
      if (mount.v2 != v2) continue;
      const auto relative = below(*group, mount.root);
      if (shown && !relative) continue;
      fs::path folder = root / mount.point.relative_path();
      visit(folder, v2);
      for (const fs::path& name : relative.value_or(fs::path())) visit(folder /= name, v2);
    }
  }
}

// How many CPUs a group of version 1 or 2 may use at once; 0 if it sets no limit.
double quota_of(const fs::path& folder, bool v2) {
  std::optional<std::uint64_t> quota, period;
  if (v2) {
    std::ifstream stream(folder / "cpu.max");  // "max 100000" or "150000 100000"
    std::string first, second;
    stream >> first >> second;
    quota = to_number(first);
    period = to_number(second);
  } else {
    quota = read_number(folder / "cpu.cfs_quota_us");  // -1 is no number and so no limit
    period = read_number(folder / "cpu.cfs_period_us");
  }
  if (!quota || !period || *quota == 0 || *period == 0) return 0;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

HostLimits read_host_memory(const fs::path& root) {
  HostLimits memory;
  const fs::path meminfo = root / "proc/meminfo";
  memory.total = read_key(meminfo, "MemTotal").value_or(0);
  // Kernels before 3.14 have no MemAvailable.
  memory.available = read_key(meminfo, "MemAvailable")
                         .value_or(read_key(meminfo, "MemFree").value_or(0) +
                                   read_key(meminfo, "Cached").value_or(0));
  memory.available = std::min(memory.available, memory.total);

  visit_groups(root, "memory",
               [&](const fs::path& folder, bool v2) { apply_folder(memory, folder, v2); });
  return memory;
}

HostLimits kernel_memory() {
  struct sysinfo facts {};
  if (::sysinfo(&facts) != 0) return {};
  const std::uint64_t unit = std::max(1u, facts.mem_unit);
  return {facts.totalram * unit, (facts.freeram + facts.bufferram) * unit, ""};
}

double read_cpu_quota(const fs::path& root) {
  double least = 0;
  visit_groups(root, "cpu", [&](const fs::path& folder, bool v2) {
    const double quota = quota_of(folder, v2);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  });
  return least;
}

}  // namespace berth

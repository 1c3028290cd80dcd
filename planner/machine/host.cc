#include "planner/machine/host.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>

#include "planner/base/quote.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

double operations_a_cycle(const std::set<std::string>& flags) {
  if (flags.count("avx512f")) return 64;
  if (flags.count("avx2") && flags.count("fma")) return 32;
  return 16;
}

}  // namespace

CpuReport read_cpu(unsigned threads, const fs::path& root) {
  CpuReport cpu;
  unsigned long siblings = 0, socket_cores = 0;
  std::set<std::string> sockets, flags;
  std::ifstream stream(root / "proc/cpuinfo");
  std::string line;
  while (std::getline(stream, line)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view key = trim(std::string_view(line).substr(0, colon));
    // The value ends with the line (or with blanks), so that strtoul() stops at its end.
    const std::string_view value = trim(std::string_view(line).substr(colon + 1));
    if (key == "model name" && cpu.model.empty()) cpu.model = printable(value);
    if (key == "physical id") sockets.emplace(value);
    if (key == "siblings") siblings = std::strtoul(value.data(), nullptr, 10);
    if (key == "cpu cores") socket_cores = std::strtoul(value.data(), nullptr, 10);
    if ((key == "flags" || key == "Features") && flags.empty()) {
      std::istringstream words{std::string(value)};
      for (std::string word; words >> word;) flags.insert(word);
    }
  }
  const bool two_threads = socket_cores > 0 && siblings >= 2 * socket_cores;
  cpu.cores = std::max(1u, two_threads ? threads / 2 : threads);
  cpu.sockets = std::max<double>(1, static_cast<double>(sockets.size()));
  cpu.memory_bandwidth = std::min(kCoreBandwidth * cpu.cores, kSocketBandwidth * cpu.sockets);
  cpu.flops = 2.5e9 * operations_a_cycle(flags) * cpu.cores;
  return cpu;
}

std::optional<DiskReport> read_disk(const fs::path& folder) {
  std::error_code error;
  fs::path path = fs::absolute(folder.empty() ? "." : folder, error);
  if (error) return std::nullopt;
  path = path.lexically_normal();
  for (;;) {
    struct statvfs facts {};
    if (statvfs(path.c_str(), &facts) == 0) {
      const std::uint64_t block = facts.f_frsize ? facts.f_frsize : facts.f_bsize;
      return DiskReport{block * facts.f_blocks, block * facts.f_bavail, path};
    }
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    const fs::path parent = path.parent_path();
    if (!absent || parent == path) return std::nullopt;
    path = parent;
  }
}

}  // namespace berth

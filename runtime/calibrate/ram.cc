#include "runtime/calibrate/ram.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

#include "berth/error.h"
#include "planner/machine/sizes.h"
#include "runtime/calibrate/read_loop.h"
#include "runtime/calibrate/repeat.h"
#include "runtime/io/memory.h"
#include "runtime/kernels/team.h"

namespace berth {
namespace {

constexpr std::uint64_t kPart = 1u << 20;     // bytes that a thread takes at a time
constexpr std::uint64_t kPiece = 16u << 20;   // bytes that are timed at a time
constexpr std::uint64_t kLeast = 256u << 20;  // bytes, where caches are small or unknown
constexpr std::uint64_t kUnknownCaches = 64u << 20;
constexpr std::size_t kMostPasses = 101;  // many short ones: other users of memory come and go
constexpr double kTouchShare = 0.4;       // of the time: how much the first touching may take

std::uint64_t read_size(const std::filesystem::path& file) {  // "32768K"
  std::ifstream stream(file);
  std::uint64_t number = 0;
  char unit = 0;
  stream >> number >> unit;
  if (number > (1u << 30)) return 0;
  return unit == 'K' ? number << 10 : unit == 'M' ? number << 20 : number;
}

std::string read_word(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

// The seconds until all parts of a buffer have gone through `work`, which gets where a part begins.
// Threads take parts in order, as those of a product do.
template <class Work>
double seconds_of(ThreadTeam& team, std::uint64_t bytes, const Work& work) {
  const double start = steady_seconds();
  team.run(bytes / kPart, [&](std::size_t part, std::size_t) { work(part * kPart); });
  return steady_seconds() - start;
}

// Writes to the buffer, to the end or until the moment `until`, and returns how many bytes of it
// were written. A virtual machine may have to get the memory from its host first, at a rate that
// has nothing to do with RAM.
std::uint64_t touch(ThreadTeam& team, std::byte* data, std::uint64_t bytes, double until,
                    const std::atomic<bool>* cancel) {
  std::atomic<std::uint64_t> least{bytes};
  seconds_of(team, bytes, [&](std::uint64_t at) {
    if (at == 0 || (steady_seconds() <= until && !(cancel && cancel->load()))) {
      std::memset(data + at, 1 + static_cast<int>(at / kPart % 100), kPart);
      return;
    }
    std::uint64_t seen = least.load();
    while (at < seen && !least.compare_exchange_weak(seen, at)) {
    }
  });
  check_cancelled(cancel);
  return least;
}

}  // namespace

std::uint64_t last_level_caches(const std::filesystem::path& root) {
  std::map<std::uint64_t, std::map<std::string, std::uint64_t>> by_level;  // size by CPUs sharing
  std::error_code ignored;
  const std::filesystem::path cpus = root / "sys/devices/system/cpu";
  for (unsigned cpu = 0;; ++cpu) {
    const std::filesystem::path caches = cpus / ("cpu" + std::to_string(cpu)) / "cache";
    if (!std::filesystem::exists(cpus / ("cpu" + std::to_string(cpu)), ignored)) break;
    for (unsigned i = 0;; ++i) {
      const std::filesystem::path cache = caches / ("index" + std::to_string(i));
      if (!std::filesystem::exists(cache, ignored)) break;
      if (read_word(cache / "type") == "Instruction") continue;
      const std::string level = read_word(cache / "level");
      if (level.size() != 1 || level[0] < '1' || level[0] > '9') continue;
      by_level[static_cast<std::uint64_t>(level[0])][read_word(cache / "shared_cpu_list")] =
          read_size(cache / "size");
    }
  }
  std::uint64_t total = 0;
  if (by_level.empty()) return total;
  for (const auto& [sharing, bytes] : by_level.rbegin()->second) total += bytes;
  return total;
}

RamFigures measure_ram(const RamOptions& options) {
  const double start = steady_seconds();
  RamFigures figures;
  std::uint64_t caches = options.caches ? options.caches : last_level_caches();
  if (caches == 0) caches = kUnknownCaches;
  ThreadTeam team(std::max(1u, options.threads));
  figures.threads = static_cast<unsigned>(team.size());
  const std::uint64_t wanted = std::min(options.most, std::max(kLeast, 4 * caches)) / kPart * kPart;
  if (wanted < 4 * kPart)
    throw Error("host RAM: " + format_size(options.most) + " is too little to measure with");
  const HostArena memory(wanted, "measuring host RAM");
  std::byte* const data = memory.data();
  figures.bytes = touch(team, data, wanted, start + kTouchShare * options.seconds, options.cancel);
  if (figures.bytes < 4 * caches)
    figures.notes.push_back("host RAM was measured over " + format_size(figures.bytes) +
                            ", less than four times the caches' " + format_size(caches) +
                            ": part of it may have been read from them");

  Repeat passes;
  passes.cancel = options.cancel;
  passes.most = kMostPasses;
  passes.seconds = (options.seconds - (steady_seconds() - start)) / 2;
  std::atomic<std::uint64_t> used{0};  // else the compiler would leave the reads out
  // A pass is made of pieces, and what counts is the median of the pieces: most are over before the
  // kernel gives a processor to somebody else. So are the products that are measured beside it.
  std::vector<double> pieces;
  const std::uint64_t piece = std::min(kPiece, figures.bytes / kPart * kPart);
  const auto read = [&] {
    for (std::uint64_t at = 0; at + piece <= figures.bytes; at += piece) {
      pieces.push_back(seconds_of(
          team, piece, [&](std::uint64_t part) { used += read_all(data + at + part, kPart); }));
    }
    return 0.0;
  };
  figures.passes = repeat(passes, read).size();
  const std::uint64_t half = figures.bytes / 2 / kPart * kPart;
  const std::vector<double> copies = half == 0 ? std::vector<double>{} : repeat(passes, [&] {
    return seconds_of(team, half,
                      [&](std::uint64_t at) { std::memcpy(data + half + at, data + at, kPart); });
  });
  figures.read = static_cast<double>(piece) / median(pieces);
  if (!copies.empty()) figures.copy = static_cast<double>(2 * half) / median(copies);
  return figures;
}

}  // namespace berth

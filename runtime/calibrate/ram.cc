#include "runtime/calibrate/ram.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

#include "berth/error.h"
#include "planner/machine/sizes.h"
#include "runtime/calibrate/crew.h"
#include "runtime/calibrate/repeat.h"
#include "runtime/io/memory.h"

namespace berth {
namespace {

constexpr std::uint64_t kPage = 2u << 20;     // what slices are multiples of
constexpr std::uint64_t kStep = 16 * kPage;   // bytes touched between two looks at the clock
constexpr std::uint64_t kLeast = 256u << 20;  // bytes, where caches are small or unknown
constexpr std::uint64_t kUnknownCaches = 64u << 20;
constexpr std::size_t kMostPasses = 101;  // many short ones: other users of memory come and go
constexpr double kTouchShare = 0.4;       // of the time: how much the first touching may take

// Sums the words in eight chains, so that additions do not wait for each other. They are integers,
// so the compiler may reorder the additions into vector instructions.
std::uint64_t sum_words(const std::uint64_t* words, std::size_t count) {
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 8 <= count; i += 8)
    for (std::size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  std::uint64_t sum = 0;
  for (const std::uint64_t each : sums) sum += each;
  return sum;
}

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

// Slices of one buffer, one for each thread, of equal lengths that are whole huge pages.
struct Slices {
  std::byte* base = nullptr;
  std::uint64_t stride = 0;  // bytes from one to the next
  std::uint64_t bytes = 0;   // of each slice that are used

  std::byte* of(unsigned thread) const { return base + thread * stride; }
};

// Each thread writes to its slice, to the end or until the moment `until`. A virtual machine may
// have to get the memory from its host first, at a rate that has nothing to do with RAM. Where that
// takes too long, all slices are cut to the length that the slowest thread has reached.
void touch(Crew& crew, Slices& slices, double until, const std::atomic<bool>* cancel) {
  std::atomic<std::uint64_t> least{slices.bytes};
  crew.run([&](unsigned thread) {
    std::uint64_t done = 0;
    while (done < slices.bytes) {
      if (done > 0 && (steady_seconds() > until || (cancel && cancel->load()))) break;
      const std::uint64_t step = std::min(kStep, slices.bytes - done);
      std::memset(slices.of(thread) + done, 1 + static_cast<int>(thread % 100), step);
      done += step;
    }
    std::uint64_t seen = least.load();
    while (done < seen && !least.compare_exchange_weak(seen, done)) {
    }
  });
  slices.bytes = least;
  check_cancelled(cancel);
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
  Crew crew(std::max(1u, options.threads));
  figures.threads = crew.size();
  const std::uint64_t wanted = std::min(options.most, std::max(kLeast, 4 * caches));
  Slices slices;
  slices.bytes = slices.stride = wanted / crew.size() / kPage * kPage;
  if (slices.bytes == 0)
    throw Error("host RAM: " + format_size(wanted) + " is too little to measure with");
  const HostArena memory(slices.stride * crew.size(), "measuring host RAM");
  slices.base = memory.data();
  touch(crew, slices, start + kTouchShare * options.seconds, options.cancel);
  figures.bytes = slices.bytes * crew.size();
  if (figures.bytes < 4 * caches)
    figures.notes.push_back("host RAM was measured over " + format_size(figures.bytes) +
                            ", less than four times the caches' " + format_size(caches) +
                            ": part of it may have been read from them");

  Repeat passes;
  passes.cancel = options.cancel;
  passes.most = kMostPasses;
  passes.seconds = (options.seconds - (steady_seconds() - start)) / 2;
  std::atomic<std::uint64_t> used{0};  // else the compiler would leave the reads out
  const std::vector<double> reads = repeat(passes, [&] {
    return crew.run([&](unsigned thread) {
      const auto* words = reinterpret_cast<const std::uint64_t*>(slices.of(thread));
      used += sum_words(words, slices.bytes / sizeof(std::uint64_t));
    });
  });
  const std::uint64_t half = slices.bytes / 2;
  const std::vector<double> copies = repeat(passes, [&] {
    return crew.run(
        [&](unsigned thread) { std::memcpy(slices.of(thread) + half, slices.of(thread), half); });
  });
  figures.passes = reads.size();
  figures.read = static_cast<double>(figures.bytes) / median(reads);
  figures.copy = static_cast<double>(2 * half * crew.size()) / median(copies);
  return figures;
}

}  // namespace berth

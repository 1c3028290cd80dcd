#include "runtime/calibrate/gpus.h"

#include <algorithm>

#include "berth/error.h"
#include "planner/machine/sizes.h"
#include "runtime/calibrate/repeat.h"

namespace berth {
namespace {

constexpr std::uint64_t kMemory = 1ull << 30;  // bytes to read; caches have 0.13 GB at most
constexpr std::uint64_t kLeastMemory = 256u << 20;
constexpr std::uint64_t kCopy = 128u << 20;  // bytes a copy
constexpr std::uint64_t kSmall = 4096;       // bytes of a copy that takes no time but its latency
constexpr std::uint64_t kLeft = 256u << 20;  // device memory left to others
constexpr double kMostSeconds = 0.5;  // for one measurement; more would not change the result

class Gpus {
 public:
  Gpus(GpuBench& bench, const GpuOptions& options) : bench_(bench), options_(options) {
    const double count = bench.count();
    // There are five measurements for each GPU, and two for each pair and direction.
    const double all = 5 * count + 2 * count * (count - 1);
    seconds_ = std::min(kMostSeconds, options.seconds / std::max(1.0, all));
  }

  MeasuredGpus run() {
    for (int device = 0; device < bench_.count(); ++device)
      guarded("gpu " + std::to_string(device), [&] { measure_one(device); });
    // All GPUs stay prepared until the end, so that pairs need not be prepared again.
    for (const MeasuredGpu& from : figures_.gpus)
      for (const MeasuredGpu& to : figures_.gpus)
        if (from.ordinal != to.ordinal)
          guarded("gpu " + std::to_string(from.ordinal) + " to gpu " + std::to_string(to.ordinal),
                  [&] { measure_pair(from, to); });
    for (int device = 0; device < bench_.count(); ++device) bench_.release(device);
    return std::move(figures_);
  }

 private:
  // Does `work`; turns an Error into a note about `what`.
  template <class Work>
  void guarded(const std::string& what, Work work) {
    try {
      work();
    } catch (const Error& error) {
      check_cancelled(options_.cancel);
      figures_.notes.push_back(what + " was not measured: " + error.what());
    }
  }

  // The median time that `operation` takes by one of its two clocks.
  template <class Operation>
  double seconds_of(double GpuTime::*clock, Operation operation) {
    Repeat several;
    several.seconds = seconds_;
    several.cancel = options_.cancel;
    const double seconds = median(repeat(several, [&] { return operation().*clock; }));
    if (!(seconds > 0)) throw Error("its clock measured no time");
    return seconds;
  }

  template <class Copy>
  MeasuredLink link_of(std::uint64_t bytes, Copy copy) {
    MeasuredLink link;
    link.bandwidth =
        static_cast<double>(bytes) / seconds_of(&GpuTime::device, [&] { return copy(bytes); });
    link.latency = seconds_of(&GpuTime::host, [&] { return copy(kSmall); });
    return link;
  }

  void measure_one(int device) {
    const GpuIdentity identity = bench_.identity(device);
    MeasuredGpu gpu;
    gpu.ordinal = device;
    gpu.name = identity.name;
    gpu.uuid = identity.uuid;
    const std::uint64_t space = identity.free - std::min(identity.free, kLeft);
    gpu.memory_bytes = std::min(kMemory, space / 2) / (1u << 20) * (1u << 20);
    if (gpu.memory_bytes < kLeastMemory)
      throw Error("only " + format_size(identity.free) + " of its memory is free");
    gpu.copy_bytes = kCopy;
    bench_.prepare(device, gpu.memory_bytes, gpu.copy_bytes);
    try {
      gpu.to_device = link_of(gpu.copy_bytes, [&](std::uint64_t bytes) {
        return bench_.copy_to_device(device, bytes);
      });
      gpu.to_host = link_of(
          gpu.copy_bytes, [&](std::uint64_t bytes) { return bench_.copy_to_host(device, bytes); });
      gpu.memory = static_cast<double>(gpu.memory_bytes) / seconds_of(&GpuTime::device, [&] {
                     return bench_.read_memory(device, gpu.memory_bytes);
                   });
    } catch (...) {
      bench_.release(device);
      throw;
    }
    figures_.gpus.push_back(gpu);
  }

  void measure_pair(const MeasuredGpu& from, const MeasuredGpu& to) {
    if (!bench_.copy_between(from.ordinal, to.ordinal, kSmall)) return;
    const auto copy = [&](std::uint64_t bytes) {
      const auto time = bench_.copy_between(from.ordinal, to.ordinal, bytes);
      if (!time) throw Error("one can no longer access the memory of the other");
      return *time;
    };
    figures_.peers.push_back({from.ordinal, to.ordinal, link_of(kCopy, copy)});
  }

  GpuBench& bench_;
  const GpuOptions& options_;
  double seconds_ = 0;  // for each measurement
  MeasuredGpus figures_;
};

}  // namespace

MeasuredGpus measure_gpus(GpuBench& bench, const GpuOptions& options) {
  check_cancelled(options.cancel);
  return Gpus(bench, options).run();
}

}  // namespace berth

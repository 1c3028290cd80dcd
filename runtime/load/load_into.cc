#include "runtime/load/load_into.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "cuda/device.h"
#include "planner/base/quote.h"
#include "runtime/io/memory.h"
#include "runtime/load/schedule.h"
#include "runtime/load/sizing.h"
#include "runtime/load/staging.h"
#include "runtime/load/streamer.h"

namespace berth {
namespace {

[[noreturn]] void fail(const TensorInfo& info, const std::string& what) {
  throw Error("tensor " + quote(info.name) + ": " + what);
}

bool is_box(const LoadTarget& target) { return !target.size.empty() || !target.start.empty(); }

// Throws Error for a box that is not within the tensor.
void require_box(const TensorInfo& info, const LoadTarget& target) {
  if (info.form != 0 || dtype_block(info.dtype).elements != 1) {
    fail(info, "is stored in blocks or not in order, so that it is loaded whole only");
  }
  const std::size_t rank = info.shape.size();
  if (target.start.size() != rank || target.size.size() != rank) {
    fail(info, "has " + std::to_string(rank) + " dimensions, which a box of it must have, too");
  }
  for (std::size_t i = 0; i < rank; ++i) {
    if (target.start[i] <= info.shape[i] && target.size[i] <= info.shape[i] - target.start[i]) {
      continue;
    }
    fail(info, "the box from " + std::to_string(target.start[i]) + " with " +
                   std::to_string(target.size[i]) + " in dimension " + std::to_string(i) +
                   " is not within its " + std::to_string(info.shape[i]));
  }
}

// What a target wants as a stored tensor of its own. A box whose elements do not stand side by side
// gets a form, which is added to `forms`.
TensorInfo stored_target(const Checkpoint& checkpoint, const LoadTarget& target,
                         std::vector<StoredForm>& forms) {
  TensorInfo info = checkpoint.tensors[target.source];
  if (!is_box(target)) return info;
  require_box(info, target);
  const std::size_t rank = info.shape.size();
  const std::uint64_t element = dtype_block(info.dtype).bytes;
  Shape strides = info.shape;
  std::uint64_t step = 1;  // elements
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t count = 1;
  bool side_by_side = true;
  for (std::size_t i = rank; i-- > 0;) {
    strides[i] = step;
    // With more than one index here, everything further in must be whole.
    if (target.size[i] > 1 && count != step) side_by_side = false;
    count *= target.size[i];
    first += target.start[i] * step;
    if (target.size[i] > 0) last += (target.start[i] + target.size[i] - 1) * step;
    step *= info.shape[i];
  }
  info.shape = target.size;
  if (count == 0) {
    info.end = info.begin;
    return info;
  }
  info.end = info.begin + (last + 1) * element;
  info.begin += first * element;
  if (side_by_side) return info;
  StoredForm form;
  form.sizes = target.size;
  form.strides = strides;
  forms.push_back(std::move(form));
  info.form = static_cast<std::uint32_t>(forms.size());
  return info;
}

// Does work on a thread of its own: what acts on a GPU selects it for its thread, and which device
// the caller's thread has selected is the caller's business.
template <typename Work>
void on_another_thread(const Work& work) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

bool is_here(int device) { return device >= 0 && device < cuda_device_count(); }

// The sinks of a part, and the staging before them.
struct Ways {
  std::unique_ptr<StagingRing> ring;
  std::vector<std::unique_ptr<DeviceSink>> sinks;  // by device

  Ways() = default;
  Ways(const Ways&) = delete;
  Ways& operator=(const Ways&) = delete;
  ~Ways() {
    if (!on_gpus) return;
    try {
      on_another_thread([&] { clear(); });
    } catch (const std::exception&) {  // no thread can be had
    }
  }
  void clear() {
    sinks.clear();  // they copy out of the ring
    ring.reset();
  }
  bool on_gpus = false;
};

class LoadingInto {
 public:
  LoadingInto(const Checkpoint& checkpoint, std::span<const LoadTarget> targets,
              const LoadOptions& options, const LoadEnvironment& environment)
      : checkpoint_(checkpoint),
        targets_(targets),
        options_(options),
        environment_(environment),
        choices_(checkpoint.shards.size()) {}

  LoadReport run() {
    require_staging(options_.staging);
    report_.before = host_memory();
    PeakSampler sampler(report_.before);
    start_ = std::chrono::steady_clock::now();
    find_systems();
    for (const LoadTarget& target : targets_) target_bytes(checkpoint_, target);
    find_devices();
    divide();
    for (const bool cold : {false, true}) {
      if (!(cold ? cold_ : warm_).empty()) load_part(cold ? cold_ : warm_, cold);
    }
    for (const std::uint32_t shard : used_) check_unchanged(checkpoint_.shards[shard]);
    sampler.look();
    report_.seconds = seconds();
    report_.after = host_memory();
    report_.host_peak_bytes = sampler.stop();
    report_.tensors = targets_.size();
    for (std::string& choice : choices_) {
      if (!choice.empty()) report_.io_choices.push_back(std::move(choice));
    }
    return std::move(report_);
  }

 private:
  void find_systems() {
    std::map<std::uint64_t, FileSystemFacts> by_disk;
    for (const Shard& shard : checkpoint_.shards) {
      auto [at, is_new] = by_disk.try_emplace(shard.device);
      if (is_new) at->second = environment_.file_system(shard.path);
      systems_.push_back(at->second);
    }
  }

  // Lists the devices of the targets. Throws Error for one that is not here.
  void find_devices() {
    for (const LoadTarget& target : targets_) {
      if (std::ranges::find(devices_, target.device) != devices_.end()) continue;
      if (target.device >= 0 && !is_here(target.device) && !options_.emulate) {
        fail(checkpoint_.tensors[target.source],
             "device " + std::to_string(target.device) + " is not on this machine (it has " +
                 std::to_string(cuda_device_count()) + " usable GPUs)");
      }
      devices_.push_back(target.device);
      any_gpu_ |= is_here(target.device);
    }
    if (any_gpu_) on_another_thread([&] { check_addresses(); });
  }

  void check_addresses() const {
    for (const LoadTarget& target : targets_) {
      if (!is_here(target.device) || target_bytes(checkpoint_, target) == 0 ||
          is_device_memory(target.device, target.to)) {
        continue;
      }
      fail(checkpoint_.tensors[target.source],
           "its memory is not memory of GPU " + std::to_string(target.device));
    }
  }

  std::uint32_t device_of(const LoadTarget& target) const {
    return static_cast<std::uint32_t>(std::ranges::find(devices_, target.device) -
                                      devices_.begin());
  }

  // Tells targets whose bytes are in the page cache from the others.
  void divide() {
    std::map<std::uint32_t, bool> cold;  // by shard that is used
    for (std::uint32_t i = 0; i < targets_.size(); ++i) {
      const std::uint32_t shard = checkpoint_.tensors[targets_[i].source].shard;
      auto [at, is_new] = cold.try_emplace(shard, false);
      if (is_new) {
        used_.push_back(shard);
        check_unchanged(checkpoint_.shards[shard]);
        at->second = is_cold(checkpoint_.shards[shard], systems_[shard], options_.io);
      }
      (at->second ? cold_ : warm_).push_back(i);
    }
  }

  // The targets as a model with one tensor each. All devices are called GPUs, also host memory, so
  // that all bytes go through staging. `bases`: by device, the lowest address of a target.
  Model model_of(const std::vector<std::uint32_t>& part, std::vector<std::byte*>& bases,
                 Plan& plan) {
    Model model;
    Checkpoint& stored = model.checkpoint.emplace();
    stored.format = checkpoint_.format;
    stored.folder = checkpoint_.folder;
    stored.shards = checkpoint_.shards;
    stored.forms = checkpoint_.forms;
    std::vector<TensorInfo> infos;
    for (const std::uint32_t i : part) {
      infos.push_back(stored_target(checkpoint_, targets_[i], stored.forms));
    }
    std::vector<std::uint32_t> order(part.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(
        order, {}, [&](std::uint32_t k) { return std::pair(infos[k].shard, infos[k].begin); });
    model.tree.modules.emplace_back();
    bases.assign(devices_.size(), nullptr);
    for (const std::uint32_t k : order) {
      const LoadTarget& target = targets_[part[k]];
      const std::uint32_t device = device_of(target);
      std::byte*& base = bases[device];
      if (!base || (target.to && target.to < base)) base = target.to;
      plan.tensor_device.push_back(device);
      ModelTensor tensor;
      tensor.name = model.tree.names.add(infos[k].name);
      tensor.stored = infos[k].dtype;
      tensor.dtype = target.dtype;
      tensor.shape = infos[k].shape;
      tensor.module = 0;
      tensor.source = static_cast<std::uint32_t>(stored.tensors.size());
      model.tree.tensors.push_back(std::move(tensor));
      stored.tensors.push_back(std::move(infos[k]));
      to_.push_back(target.to);
    }
    for (const int device : devices_) {
      plan.devices.push_back({.name = device < 0 ? "memory of the caller" : std::to_string(device),
                              .kind = DeviceKind::kCuda});
    }
    return model;
  }

  void load_part(const std::vector<std::uint32_t>& part, bool cold) {
    to_.clear();
    std::vector<std::byte*> bases;
    Plan plan;
    const Model model = model_of(part, bases, plan);
    ScheduleOptions wanted;
    wanted.chunk_bytes = chunk_for(options_.staging);
    wanted.cold = [cold](std::uint32_t) { return cold; };
    wanted.destination_offset = [&](TensorId id) {
      return static_cast<std::uint64_t>(to_[id] - bases[plan.tensor_device[id]]);
    };
    wanted.in_host_memory = [](std::uint32_t) { return false; };
    Schedule schedule = make_schedule(model, plan, wanted);
    if (!cold) read_in_place(schedule);
    stream_part(*model.checkpoint, schedule, plan, bases, cold);
  }

  // What is only copied to one place in host memory can be read there at once, by an engine that
  // writes no byte beyond what it is asked for.
  void read_in_place(Schedule& schedule) const {
    schedule.staged_chunks = 0;
    schedule.largest_staged = 0;
    for (Chunk& chunk : schedule.chunks) {
      const Segment* const segment =
          chunk.segments == 1 ? &schedule.segments[chunk.first_segment] : nullptr;
      if (segment && devices_[segment->device] < 0 && segment->as_it_is() &&
          segment->from == chunk.begin && segment->bytes == chunk.end - chunk.begin) {
        chunk.in_place = true;
        chunk.device = segment->device;
        chunk.to = segment->to;
      } else {
        ++schedule.staged_chunks;
        schedule.largest_staged =
            std::max(schedule.largest_staged, block_up(chunk.end) - block_down(chunk.begin));
      }
    }
  }

  // Makes the sinks of all devices, and their staging, for `slots` slots of `slot_bytes` bytes.
  void make_ways(const Schedule& schedule, const Plan& plan, const std::vector<std::byte*>& bases,
                 std::uint32_t slots, std::uint64_t slot_bytes, std::size_t threads, Ways& ways) {
    PageLock page_lock = environment_.page_lock;
    ways.on_gpus = any_gpu_;
    for (std::uint32_t i = 0; i < devices_.size(); ++i) {
      const int device = devices_[i];
      if (!is_here(device)) {
        ways.sinks.push_back(make_address_sink(bases[i]));
      } else {
        ways.sinks.push_back(make_cuda_sink_at(device, bases[i], streams_of(device), slots,
                                               slot_bytes, sink_needs(schedule, i)));
        if (!page_lock) page_lock = page_lock_through(device);
      }
      if (environment_.wrap_sink) {
        ways.sinks[i] = environment_.wrap_sink(std::move(ways.sinks[i]), plan.devices[i]);
      }
    }
    if (schedule.staged_chunks > 0) {
      ways.ring = std::make_unique<StagingRing>(slots, slot_bytes, threads, std::move(page_lock));
    }
  }

  // The streams that may still use memory of a device's targets.
  std::vector<CudaStreamHandle> streams_of(int device) const {
    std::vector<CudaStreamHandle> streams;
    for (const LoadTarget& target : targets_) {
      if (target.device != device) continue;
      if (std::ranges::find(streams, target.stream) == streams.end()) {
        streams.push_back(target.stream);
      }
    }
    return streams;
  }

  void stream_part(const Checkpoint& stored, const Schedule& schedule, const Plan& plan,
                   const std::vector<std::byte*>& bases, bool cold) {
    std::vector<std::uint32_t> uses(stored.shards.size(), 0);
    for (const Chunk& chunk : schedule.chunks) ++uses[chunk.shard];
    ShardFiles files(stored.shards, systems_, uses,
                     ReadPolicy{cold ? options_.io : IoEngine::kBuffered, false},
                     environment_.wrap_reader);
    if (!files.note().empty()) report_.notes.push_back(files.note());
    const std::uint64_t slot = std::min(slot_bytes(chunk_for(options_.staging)),
                                        std::max<std::uint64_t>(schedule.largest_staged, kBlock));
    // A device copies out of one slot while its thread fills another one.
    const bool late = std::ranges::any_of(devices_, [](int device) { return device >= 0; });
    const std::uint64_t budget = options_.staging / slot;
    const auto threads = static_cast<std::size_t>(
        std::clamp<std::uint64_t>(std::min<std::uint64_t>(budget, schedule.chunks.size()), 1,
                                  cold ? kDiskThreads : reading_threads()));
    const auto slots = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>((late ? 2 : 1) * threads, 1, std::max<std::uint64_t>(budget, 1)));
    if (schedule.staged_chunks > 0) {
      report_.planned_peak_bytes =
          std::max(report_.planned_peak_bytes,
                   std::min<std::uint64_t>(slots, schedule.staged_chunks) * slot);
    }
    Ways ways;
    const auto make = [&] { make_ways(schedule, plan, bases, slots, slot, threads, ways); };
    any_gpu_ ? on_another_thread(make) : make();
    WorkControl control;
    control.cancel = options_.cancel;
    control.elapsed = [this] { return seconds(); };
    control.bytes_total = schedule.bytes_to_read;
    if (options_.on_progress) {
      control.on_progress = [this](LoadProgress progress) {
        progress.bytes_done += report_.bytes_read;  // of the part before
        progress.bytes_total += report_.bytes_read;
        options_.on_progress(progress);
      };
    }
    stream(stored, schedule, files, ways.sinks, {ways.ring.get(), nullptr}, nullptr, threads, 0,
           control);
    if (ways.ring && ways.ring->not_locked() > 0) {
      report_.notes.push_back(std::to_string(ways.ring->not_locked()) +
                              " staging slots could not be page-locked: copies to the GPU were "
                              "slower");
    }
    report_.bytes_read += files.bytes_read();
    for (std::uint32_t i = 0; i < stored.shards.size(); ++i) {
      const std::string choice = files.choice(i);
      if (!choice.empty()) choices_[i] = stored.shards[i].path.filename().string() + ": " + choice;
    }
  }

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  const Checkpoint& checkpoint_;
  std::span<const LoadTarget> targets_;
  const LoadOptions& options_;
  const LoadEnvironment& environment_;
  std::chrono::steady_clock::time_point start_;
  std::vector<FileSystemFacts> systems_;  // by shard
  std::vector<std::string> choices_;      // by shard
  std::vector<std::uint32_t> used_;       // shards
  std::vector<std::uint32_t> warm_;       // targets
  std::vector<std::uint32_t> cold_;
  std::vector<int> devices_;    // of targets: numbers of GPUs, -1 for host memory
  bool any_gpu_ = false;        // of this machine
  std::vector<std::byte*> to_;  // of the part that is loaded, by TensorId
  LoadReport report_;
};

}  // namespace

std::uint64_t target_bytes(const Checkpoint& checkpoint, const LoadTarget& target) {
  const TensorInfo& info = checkpoint.tensors[target.source];
  if (!can_convert(info.dtype, target.dtype)) {
    fail(info, "is stored as " + std::string(dtype_name(info.dtype)) +
                   " and cannot be turned into " + std::string(dtype_name(target.dtype)));
  }
  if (is_box(target)) require_box(info, target);
  const std::optional<std::uint64_t> bytes =
      tensor_bytes(target.dtype, is_box(target) ? target.size : info.shape);
  if (!bytes) fail(info, "is not a whole number of bytes");
  return *bytes;
}

LoadReport load_into(const Checkpoint& checkpoint, std::span<const LoadTarget> targets,
                     const LoadOptions& options, const LoadEnvironment& environment) {
  return LoadingInto(checkpoint, targets, options, environment).run();
}

}  // namespace berth

// load(): checks the request, makes the destinations, reads, checks the files again, and reports.
#include "berth/loader.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <thread>

#include "berth/error.h"
#include "cuda/device.h"
#include "planner/base/error_kinds.h"
#include "planner/cost/memory.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/numa.h"
#include "runtime/load/digest_pass.h"
#include "runtime/load/environment.h"
#include "runtime/load/loaded_model.h"
#include "runtime/load/mapped.h"
#include "runtime/load/offload.h"
#include "runtime/load/sizing.h"
#include "runtime/load/streamer.h"

namespace berth {
namespace {

// One load, step by step. Where a step throws, what earlier steps made is freed in reverse order.
class Loading {
 public:
  Loading(const Model& model, const Plan& plan, const LoadOptions& options,
          const LoadEnvironment& environment)
      : model_(model), plan_(plan), options_(options), environment_(environment) {}

  std::unique_ptr<LoadedModel> run() {
    check_request();
    resolve_devices();
    const HostMemory before = host_memory();
    PeakSampler sampler(before);
    start_ = std::chrono::steady_clock::now();

    for (const Shard& shard : model_.checkpoint->shards) check_unchanged(shard);
    if (!options_.verify.empty()) {
      verifier_ = std::make_unique<Verifier>(*model_.checkpoint, options_.verify);
    }
    make_plan_concrete();
    check_space();
    make_memory();
    read_all();
    map_all();
    for (const Shard& shard : model_.checkpoint->shards) check_unchanged(shard);

    auto loaded = std::make_unique<Loaded>(model_, plan_, schedule_, std::move(mappings_), sinks_,
                                           emulated_, environment_.wrap_reader);
    loaded->keep_offload(offload_);
    loaded->look_at_zero_points(zero_points_);
    if (verifier_ && stays_on_disk()) loaded->verify_fetched(options_.verify);
    if (plan_.cpu_memory == CpuMemory::kPinned) page_lock(*loaded);
    look_at_nodes();
    sampler.look();  // while everything is still there: a short load may end between two samples
    ring_.reset();
    sinks_.clear();
    report(*loaded, before, sampler);
    return loaded;
  }

 private:
  void check_request() const {
    require_plan_of(model_, plan_);
    if (!plan_.fits()) {
      throw DoesNotFit("the plan does not fit its devices: " +
                       std::to_string(plan_.shortfall->bytes) + " bytes are missing");
    }
    require_staging(options_.staging);
  }

  // Finds out which GPUs of the plan are in this machine and which are emulated. Makes contexts on
  // the former before the memory in use is measured, so that theirs does not count as the load's.
  void resolve_devices() {
    emulated_.assign(plan_.devices.size(), false);
    ordinal_.assign(plan_.devices.size(), -1);
    gpu_before_.assign(plan_.devices.size(), 0);
    std::vector<bool> used(plan_.devices.size(), false);
    for (const std::uint32_t device : plan_.tensor_device) {
      if (device < used.size()) used[device] = true;
    }
    for (std::uint32_t i = 0; i < plan_.devices.size(); ++i) {
      if (!used[i] || !is_gpu(plan_.devices[i].kind)) continue;
      const std::string& name = plan_.devices[i].name;
      const bool other = plan_.devices[i].kind == DeviceKind::kOther;
      int ordinal = -1;
      if (!other) std::from_chars(name.data(), name.data() + name.size(), ordinal);
      if (ordinal >= 0 && ordinal < cuda_device_count()) {
        ordinal_[i] = ordinal;
        gpu_before_[i] = gpu_used(ordinal);
      } else if (options_.emulate) {
        emulated_[i] = true;
      } else if (other) {
        throw Error("device " + name +
                    " of the plan is of kind other: Berth plans for it, but loads to CUDA GPUs, "
                    "host RAM and the disk only; --emulate rehearses it in host memory");
      } else {
        throw Error("device " + name + " of the plan is not on this machine (it has " +
                    std::to_string(cuda_device_count()) +
                    " usable GPUs); --emulate puts absent devices into host memory");
      }
    }
  }

  static std::uint64_t gpu_used(int ordinal) {
    const CudaMemory memory = cuda_memory(ordinal);
    return memory.total - memory.free;
  }

  void make_plan_concrete() {
    std::map<std::uint64_t, FileSystemFacts> by_disk;
    for (const Shard& shard : model_.checkpoint->shards) {
      auto [at, is_new] = by_disk.try_emplace(shard.device);
      if (is_new) at->second = environment_.file_system(shard.path);
      systems_.push_back(at->second);
    }
    ScheduleOptions options;
    // A quarter of the staging is for the tables of quantised weights, where there are any.
    const bool packed = model_.tree.quantized != nullptr;
    const std::uint64_t staging = options_.staging - (packed ? options_.staging / 4 : 0);
    options.chunk_bytes = chunk_for(staging);
    options.mappable = [this](std::uint32_t shard) { return !systems_[shard].network; };
    options.cold = [this](std::uint32_t shard) {
      return is_cold(model_.checkpoint->shards[shard], systems_[shard], options_.io);
    };
    options.tile = options_.tile;
    // GGUF's blocks that a GPU computes with are not put into tiles: neither its own weights nor
    // those that it is sent from the disk.
    options.in_host_memory = [this](std::uint32_t device) {
      const bool sent = plan_.devices[device].kind == DeviceKind::kDisk &&
                        plan_.disk_runner < plan_.devices.size();
      return ordinal_[sent ? plan_.disk_runner : device] < 0;
    };
    schedule_ = make_schedule(model_, plan_, options);
    slot_bytes_ = slot_bytes(options.chunk_bytes);
    table_share_ = table_share(options_.staging, schedule_.largest_tables);

    threads_ = schedule_.any_cached ? reading_threads() : kDiskThreads;
    if (schedule_.bounced_chunks > 0) threads_ = std::max(threads_, kBouncingThreads);
    threads_ = std::min(threads_, std::max<std::size_t>(1, schedule_.chunks.size()));
    plan_bounce(schedule_.staged_chunks > 0 ? staging / 4 : staging);
    if (schedule_.staged_chunks > 0) {
      // Each thread needs one slot where all sinks are host memory, as these have copied when
      // copy() returns. A GPU copies out of one slot while the thread fills a second one.
      const std::uint64_t budget = (staging - bounce_count_ * bounce_bytes_) / slot_bytes_;
      threads_ = std::min<std::size_t>(threads_, budget);
      const bool gpu = std::any_of(ordinal_.begin(), ordinal_.end(), [](int o) { return o >= 0; });
      slots_ =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(budget, (gpu ? 2 : 1) * threads_));
      slot_bytes_ = std::min(slot_bytes_, schedule_.largest_staged);
    }
  }

  // Decides how many bounce buffers there will be within `budget` bytes; none where few would not
  // help.
  void plan_bounce(std::uint64_t budget) {
    bounce_bytes_ = std::min(slot_bytes_, slot_bytes(kColdChunk));
    bounce_count_ = std::min(schedule_.bounced_chunks,
                             std::min(bounce_buffers(threads_), budget / bounce_bytes_));
    if (bounce_count_ < std::min(kLeastBounceBuffers, schedule_.bounced_chunks)) bounce_count_ = 0;
  }

  // How many bytes of host memory the load will take besides mappings: weights, staging and tables.
  std::uint64_t host_bytes() const {
    std::uint64_t tables = 0;
    for (const PackedWeight& weight : schedule_.weights) tables += weight.made.table_bytes;
    std::uint64_t total = std::min<std::uint64_t>(slots_, schedule_.staged_chunks) * slot_bytes_ +
                          bounce_count_ * bounce_bytes_ + std::min(tables, table_share_) +
                          threads_ * schedule_.largest_tile;
    for (std::size_t i = 0; i < plan_.devices.size(); ++i) {
      const bool memory = ordinal_[i] < 0 && plan_.devices[i].kind != DeviceKind::kDisk;
      if (memory) total += schedule_.arena_bytes[i];
    }
    return total;
  }

  // Memory that was free when the plan was made may be taken by now.
  void check_space() {
    if (!environment_.probe) return;
    const Machine now =
        options_.machine ? *options_.machine : environment_.probe(model_.checkpoint->folder);
    if (environment_.recheck) {
      const std::string problem = environment_.recheck(plan_, now, options_.emulate);
      if (!problem.empty()) throw DoesNotFit(problem);
    }
    for (const DeviceLedger& row : plan_.devices) {
      const Device* const device = now.find(row.name);
      const bool host = device != nullptr && row.kind == DeviceKind::kCpu;
      node_.push_back(host ? device->node : -1);
    }
    const bool cpu = now.find("cpu") != nullptr;
    const std::uint64_t free = now.host_capacity();
    if (cpu && host_bytes() > free) {
      throw DoesNotFit("host memory: the load needs " + std::to_string(host_bytes()) +
                       " bytes (weights there, emulated devices and staging), " +
                       std::to_string(free) + " are free now, " +
                       std::to_string(host_bytes() - free) +
                       " too few; free some, or plan with a smaller budget for cpu");
    }
    std::uint64_t mapped = 0;
    for (const MappedRange& range : schedule_.mapped) mapped += range.end - range.begin;
    if (cpu && mapped > free) {
      notes_.push_back("the mapped weights, " + std::to_string(mapped) +
                       " bytes, do not fit in free memory: the kernel will drop pages and read "
                       "them again when they are used");
    }
    // Where memory is tight, pages that nobody reads again must not push others out.
    drop_behind_ = cpu && schedule_.bytes_to_read > free - host_bytes();
  }

  // Throws Error where a real device would refuse the allocation.
  static void enforce_capacity(const DeviceLedger& device, std::uint64_t weights) {
    const std::uint64_t space = device.capacity - std::min(device.capacity, device.reserved);
    if (weights <= space) return;
    throw DoesNotFit("device " + device.name + " (emulated): out of memory: the weights need " +
                     std::to_string(weights) + " bytes, the device has " + std::to_string(space));
  }

  void make_memory() {
    sinks_.resize(plan_.devices.size());
    PageLock page_lock = environment_.page_lock;
    std::vector<std::string> gpus;
    for (std::uint32_t i = 0; i < plan_.devices.size(); ++i) {
      const DeviceLedger& device = plan_.devices[i];
      const std::uint64_t bytes = schedule_.arena_bytes[i];
      const bool holds = std::any_of(schedule_.destinations.begin(), schedule_.destinations.end(),
                                     [&](const Destination& destination) {
                                       return (destination.kind == DestinationKind::kArena ||
                                               destination.kind == DestinationKind::kOffload) &&
                                              destination.device == i;
                                     });
      if (!holds) continue;
      if (device.kind == DeviceKind::kDisk) {
        offload_ = std::make_shared<OffloadFile>(offload_folder(), bytes, environment_.disk_space);
        sinks_[i] = make_offload_sink(offload_);
      } else if (ordinal_[i] >= 0) {
        sinks_[i] =
            make_cuda_sink(ordinal_[i], bytes, slots_, slot_bytes_, sink_needs(schedule_, i));
        if (!page_lock) page_lock = page_lock_through(ordinal_[i]);
        gpus.push_back(cuda_pci_address(ordinal_[i]));
      } else {
        if (emulated_[i]) enforce_capacity(device, schedule_.held_bytes[i]);
        sinks_[i] = make_host_sink(device.name, bytes, i < node_.size() ? node_[i] : -1);
      }
      if (environment_.wrap_sink) {
        sinks_[i] = environment_.wrap_sink(std::move(sinks_[i]), device);
      }
    }
    if (slots_ > 0) {
      ring_ = std::make_unique<StagingRing>(slots_, slot_bytes_, threads_, page_lock,
                                            staging_node(gpus));
    }
  }

  std::filesystem::path offload_folder() const {
    return options_.offload_folder.empty() ? default_offload_folder() : options_.offload_folder;
  }

  bool stays_on_disk() const {
    return std::any_of(
        schedule_.destinations.begin(), schedule_.destinations.end(),
        [](const Destination& destination) { return destination.kind == DestinationKind::kDisk; });
  }

  void read_all() {
    std::vector<std::uint32_t> uses(model_.checkpoint->shards.size(), 0);
    for (const Chunk& chunk : schedule_.chunks) ++uses[chunk.shard];
    for (const PackedWeight& weight : schedule_.weights) {
      for (const std::uint32_t part : weight.made.parts) {
        if (part == kNone || model_.checkpoint->tensors[part].bytes() == 0) continue;
        ++uses[model_.checkpoint->tensors[part].shard];
      }
    }
    files_ = std::make_unique<ShardFiles>(model_.checkpoint->shards, systems_, std::move(uses),
                                          ReadPolicy{options_.io, drop_behind_},
                                          environment_.wrap_reader);
    if (!files_->note().empty()) notes_.push_back(files_->note());
    control_.cancel = options_.cancel;
    control_.on_progress = options_.on_progress;
    control_.elapsed = [this] { return seconds(); };
    control_.bytes_total = schedule_.bytes_to_read;
    for (const MappedRange& range : schedule_.mapped) {
      const int passes = (options_.prefault ? 1 : 0) + (verifier_ ? 1 : 0);
      control_.bytes_total += static_cast<std::uint64_t>(passes) * (range.end - range.begin);
    }
    std::unique_ptr<BounceBuffers> bounce;
    if (bounce_count_ > 0) {
      bounce = std::make_unique<BounceBuffers>(bounce_count_, bounce_bytes_, copying_threads());
    }
    zero_points_ =
        stream(*model_.checkpoint, schedule_, *files_, sinks_, {ring_.get(), bounce.get()},
               verifier_.get(), threads_, table_share_, control_);
    if (ring_ && ring_->not_locked() > 0) {
      notes_.push_back(std::to_string(ring_->not_locked()) +
                       " staging slots could not be page-locked: copies to the GPU were slower");
    }
  }

  void map_all() {
    const Checkpoint& checkpoint = *model_.checkpoint;
    for (const MappedRange& range : schedule_.mapped) {
      if (mappings_[range.shard]) continue;
      mappings_[range.shard] = std::make_unique<FileMapping>(checkpoint.shards[range.shard]);
    }
    if (verifier_) {
      verify_mapped(checkpoint, schedule_.mapped, *verifier_, environment_.wrap_reader, threads_,
                    control_);
      digest_one_by_one(
          checkpoint, verifier_->deferred(), environment_.wrap_reader,
          digest_threads(options_.staging), control_,
          [this](std::uint32_t tensor, const Digest& found) { verifier_->compare(tensor, found); });
    }
    if (options_.prefault) {
      prefault(checkpoint, schedule_.mapped, mappings_, threads_, control_);
    }
  }

  // The kernel takes pages from another node rather than fail, so the report says where they are.
  void look_at_nodes() {
    if (plan_.node_map.empty()) return;
    for (std::uint32_t i = 0; i < node_.size(); ++i) {
      if (node_[i] < 0 || !sinks_[i]) continue;
      const auto share = share_on_node(sinks_[i]->memory(), schedule_.arena_bytes[i], node_[i]);
      if (!share || *share > 0.99) continue;
      notes_.push_back(std::to_string(std::lround(100 * (1 - *share))) + " % of the weights on " +
                       plan_.devices[i].name + " stand on another NUMA node, because node " +
                       std::to_string(node_[i]) + " was full");
    }
  }

  void page_lock(Loaded& loaded) {
    if (cuda_device_count() == 0) {
      notes_.push_back(
          "pinned memory needs a GPU's driver, and there is none: the CPU's weights are in "
          "private memory instead");
      return;
    }
    for (std::uint32_t i = 0; i < plan_.devices.size(); ++i) {
      if (plan_.devices[i].kind != DeviceKind::kCpu || !sinks_[i]) continue;
      try {
        const auto gpu = std::find_if(ordinal_.begin(), ordinal_.end(),
                                      [](int ordinal) { return ordinal >= 0; });
        loaded.keep_locked(HostRegistration(gpu == ordinal_.end() ? 0 : *gpu, sinks_[i]->memory(),
                                            schedule_.arena_bytes[i]));
      } catch (const Error& error) {
        notes_.push_back(std::string("the CPU's weights are in private memory, not pinned: ") +
                         error.what());
      }
    }
  }

  void report(Loaded& loaded, const HostMemory& before, PeakSampler& sampler) {
    LoadReport& report = loaded.mutable_report();
    report.before = before;
    report.seconds = seconds();
    report.after = host_memory();
    report.host_peak_bytes = sampler.stop();
    report.planned_peak_bytes = host_bytes();
    report.bytes_read = files_->bytes_read();
    if (before.rss == 0) {
      notes_.push_back("no /proc/self/status: memory was not measured, and its figures are 0");
    }
    report.notes = notes_;
    for (std::string& line : zero_points_.lines()) report.notes.push_back(std::move(line));
    for (const Destination& destination : schedule_.destinations)
      report.tensors += destination.source != kNone;
    std::vector<std::uint64_t> mapped(model_.checkpoint->shards.size(), 0);
    for (const MappedRange& range : schedule_.mapped) {
      mapped[range.shard] += range.end - range.begin;
    }
    for (std::uint32_t i = 0; i < mapped.size(); ++i) {
      report.bytes_mapped += mapped[i];
      std::string choice = mapped[i] > 0 ? "mapped (" + systems_[i].name + ")" : "";
      const std::string engine = files_->choice(i);
      if (!choice.empty() && !engine.empty()) choice += "; ";
      choice += engine;
      if (choice.empty()) continue;
      report.io_choices.push_back(model_.checkpoint->shards[i].path.filename().string() + ": " +
                                  choice);
    }
    report.bytes_mapped_resident = loaded.resident();
    report.tensors_verified = verifier_ ? verifier_->verified() : 0;
    for (std::uint32_t i = 0; i < plan_.devices.size(); ++i) {
      const DeviceLedger& device = plan_.devices[i];
      if (device.kind == DeviceKind::kDisk) report.bytes_offloaded += schedule_.held_bytes[i];
      report.devices.push_back({device.name, device.kind, emulated_[i], device.weights,
                                loaded.bytes_on(i), gpu_before_[i],
                                ordinal_[i] >= 0 ? gpu_used(ordinal_[i]) : 0});
    }
  }

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  const Model& model_;
  const Plan& plan_;
  const LoadOptions& options_;
  const LoadEnvironment& environment_;
  std::chrono::steady_clock::time_point start_;
  std::vector<int> node_;                  // by device: the NUMA node of its memory, or -1
  std::vector<bool> emulated_;             // by device
  std::vector<int> ordinal_;               // by device; -1: not a GPU of this machine
  std::vector<std::uint64_t> gpu_before_;  // by device
  std::vector<FileSystemFacts> systems_;   // by shard
  Schedule schedule_;
  std::uint64_t slot_bytes_ = 0;
  std::uint64_t table_share_ = 0;
  std::uint32_t slots_ = 0;
  std::uint64_t bounce_bytes_ = 0;
  std::uint64_t bounce_count_ = 0;
  std::size_t threads_ = 0;
  bool drop_behind_ = false;
  std::vector<std::string> notes_;
  ZeroPointNotes zero_points_;
  std::unique_ptr<Verifier> verifier_;
  std::shared_ptr<OffloadFile> offload_;
  std::unique_ptr<StagingRing> ring_;  // before sinks_, which copy out of it: freed after them
  std::vector<std::unique_ptr<DeviceSink>> sinks_;  // by device; null where nothing goes
  std::unique_ptr<ShardFiles> files_;
  WorkControl control_;
  Mappings mappings_;
};

}  // namespace

std::unique_ptr<LoadedModel> load(const Model& model, const Plan& plan, const LoadOptions& options,
                                  const LoadEnvironment& environment) {
  return Loading(model, plan, options, environment).run();
}

}  // namespace berth

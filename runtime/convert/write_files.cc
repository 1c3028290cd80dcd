#include "runtime/convert/write_files.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <utility>

#include "berth/error.h"
#include "runtime/io/memory.h"
#include "runtime/load/schedule.h"
#include "runtime/load/sizing.h"
#include "runtime/load/staging.h"
#include "runtime/load/streamer.h"

namespace berth {
namespace {

class Writing {
 public:
  Writing(const Checkpoint& checkpoint, FilesToWrite wanted, const ConvertOptions& options)
      : checkpoint_(checkpoint), wanted_(std::move(wanted)), options_(options) {}

  ConvertReport run(std::span<const Companion> companions, const std::filesystem::path& out) {
    report_.before = host_memory();
    PeakSampler sampler(report_.before);
    start_ = std::chrono::steady_clock::now();
    for (const Shard& shard : checkpoint_.shards) check_unchanged(shard);

    for (const OutputFile& file : wanted_.files) {
      report_.files.push_back({file.name, file.bytes});
      report_.bytes_written += file.bytes;
    }
    for (const Companion& text : wanted_.texts) report_.bytes_written += text.text.size();
    OutputFolder folder(out);
    create_files(folder, companions);  // which says if there is too little space for all of it
    make_schedule_to_files();
    stream_all(folder);
    for (const Shard& shard : checkpoint_.shards) check_unchanged(shard);
    sampler.look();
    folder.commit(options_.cancel);

    report_.seconds = seconds();
    report_.after = host_memory();
    report_.host_peak_bytes = sampler.stop();
    return std::move(report_);
  }

 private:
  // Makes the schedule for one device, which is called a GPU so that all bytes go through staging.
  void make_schedule_to_files() {
    Model& model = model_;
    model.checkpoint = checkpoint_;
    model.tree.modules.emplace_back();
    for (const WrittenTensor& written : wanted_.tensors) {
      const TensorInfo& info = checkpoint_.tensors[written.source];
      ModelTensor tensor;
      tensor.name = model.tree.names.add(written.name);
      tensor.stored = info.dtype;
      tensor.dtype = written.dtype;
      tensor.shape = info.shape;
      tensor.module = 0;
      tensor.source = written.source;
      report_.converted += tensor.stored != tensor.dtype;
      model.tree.tensors.push_back(std::move(tensor));
    }
    report_.tensors = wanted_.tensors.size();
    Plan plan;
    plan.devices.push_back({.name = "files", .kind = DeviceKind::kCuda});
    plan.tensor_device.assign(wanted_.tensors.size(), 0);
    ScheduleOptions schedule;
    schedule.chunk_bytes = chunk_for(options_.staging);
    schedule.destination_offset = [&](TensorId id) { return wanted_.tensors[id].to; };
    schedule.cold = [&](std::uint32_t shard) {
      const Shard& file = checkpoint_.shards[shard];
      return is_cold(file, file_system_of(file.path), options_.io);
    };
    schedule.tile = wanted_.tile;
    schedule.in_host_memory = [&](std::uint32_t) { return wanted_.tile; };
    schedule_ = make_schedule(model, plan, schedule);
    for (const Destination& destination : schedule_.destinations) {
      report_.tiled += destination.tiling == Tiling::kMade;
    }
  }

  void create_files(OutputFolder& folder, std::span<const Companion> companions) {
    std::uint64_t beside = 0;
    for (const Companion& companion : companions) {
      std::error_code ignored;
      beside += companion.from.empty() ? companion.text.size()
                                       : std::filesystem::file_size(companion.from, ignored);
    }
    folder.require_space(report_.bytes_written + beside);
    for (OutputFile& file : wanted_.files) {
      file.file = folder.create(file.name, file.bytes);
      folder.write(file.file, 0, file.head);
    }
    for (const auto list : {std::span<const Companion>(wanted_.texts), companions}) {
      for (const Companion& companion : list) {
        if (!companion.from.empty()) {
          folder.copy(companion.from, companion.name);
        } else {
          folder.write(folder.create(companion.name, companion.text.size()), 0, companion.text);
        }
      }
    }
  }

  void stream_all(OutputFolder& folder) {
    std::map<std::uint64_t, FileSystemFacts> by_disk;
    std::vector<FileSystemFacts> systems;
    for (const Shard& shard : checkpoint_.shards) {
      auto [at, is_new] = by_disk.try_emplace(shard.device);
      if (is_new) at->second = file_system_of(shard.path);
      systems.push_back(at->second);
    }
    std::vector<std::uint32_t> uses(checkpoint_.shards.size(), 0);
    for (const Chunk& chunk : schedule_.chunks) ++uses[chunk.shard];
    ShardFiles files(checkpoint_.shards, systems, uses, {options_.io}, {});

    std::vector<std::unique_ptr<DeviceSink>> sinks;
    sinks.push_back(std::make_unique<FileSink>(folder, wanted_.files));
    const std::uint64_t slot =
        std::min(slot_bytes(chunk_for(options_.staging)), schedule_.largest_staged);
    // What a thread needs besides its slot.
    const std::uint64_t scratch =
        (report_.converted > 0 ? kConvertScratch : 0) + schedule_.largest_tile;
    const std::uint64_t affordable =
        slot == 0 ? 1 : std::max<std::uint64_t>(1, options_.staging / (slot + scratch));
    const auto threads =
        std::min<std::size_t>(schedule_.any_cached ? reading_threads() : kDiskThreads, affordable);
    std::unique_ptr<StagingRing> ring;
    if (schedule_.staged_chunks > 0) {
      ring = std::make_unique<StagingRing>(static_cast<std::uint32_t>(threads), slot, threads,
                                           PageLock());
      report_.planned_peak_bytes =
          std::min<std::uint64_t>(threads, schedule_.staged_chunks) * (slot + scratch);
    }

    WorkControl control;
    control.cancel = options_.cancel;
    control.on_progress = options_.on_progress;
    control.elapsed = [this] { return seconds(); };
    control.bytes_total = schedule_.bytes_to_read;
    stream(checkpoint_, schedule_, files, sinks, {ring.get(), nullptr}, nullptr, threads, 0,
           control);

    report_.bytes_read = files.bytes_read();
    for (std::uint32_t i = 0; i < checkpoint_.shards.size(); ++i) {
      if (std::string choice = files.choice(i); !choice.empty()) {
        report_.io_choices.push_back(checkpoint_.shards[i].path.filename().string() + ": " +
                                     choice);
      }
    }
  }

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  const Checkpoint& checkpoint_;
  FilesToWrite wanted_;
  const ConvertOptions& options_;
  std::chrono::steady_clock::time_point start_;
  Model model_;  // what the schedule was made for; it points into it
  Schedule schedule_;
  ConvertReport report_;
};

}  // namespace

void set_bases(std::vector<OutputFile>& files) {
  std::uint64_t base = 0;
  for (OutputFile& file : files) {
    file.base = base;
    if (__builtin_add_overflow(base, file.bytes, &base)) {
      throw Error("the size of what is to be written overflows");
    }
  }
}

void check_convert_options(const ConvertOptions& options) {
  require_staging(options.staging);
  if (options.max_shard_bytes == 0) throw Error("--max-shard-size 0: a file must hold something");
}

ConvertReport write_files(const Checkpoint& checkpoint, FilesToWrite wanted,
                          std::span<const Companion> companions, const std::filesystem::path& out,
                          const ConvertOptions& options) {
  return Writing(checkpoint, std::move(wanted), options).run(companions, out);
}

}  // namespace berth

// convert(): a load whose destination is a folder. The output files, one after another, are the
// memory of one device of the schedule, and a sink writes to them.
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "berth/error.h"
#include "berth/loader.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/safetensors/layout.h"
#include "runtime/convert/output_folder.h"
#include "runtime/io/memory.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/schedule.h"
#include "runtime/load/sizing.h"
#include "runtime/load/staging.h"
#include "runtime/load/streamer.h"

namespace berth {
namespace {

// How many converted bytes a thread holds before it writes them: few enough to stay in its cache.
constexpr std::uint64_t kScratch = 256u << 10;

// One file of the output: what is in it, and where it is in the memory that the schedule knows.
struct OutputShard {
  std::string name;
  std::vector<std::size_t> tensors;  // indices into the tensors to write
  SafetensorsLayout layout;
  std::uint64_t base = 0;  // offset of its first byte in that memory
  std::size_t file = 0;    // the number that OutputFolder::create() gave it
};

// The sink that writes to the output files. CopyJob::to counts as OutputShard::base does.
class FileSink final : public DeviceSink {
 public:
  FileSink(OutputFolder& folder, std::span<const OutputShard> shards)
      : folder_(folder), shards_(shards) {}

  std::byte* memory() const override { return nullptr; }
  std::shared_ptr<void> memory_owner() const override { return nullptr; }

  void copy(std::span<const CopyJob> jobs, std::uint32_t) override {
    std::unique_ptr<std::byte[]> scratch;
    for (const CopyJob& job : jobs) {
      const auto shard = std::prev(std::upper_bound(
          shards_.begin(), shards_.end(), job.to,
          [](std::uint64_t at, const OutputShard& other) { return at < other.base; }));
      const std::uint64_t offset = job.to - shard->base;
      if (job.reorders()) {
        copy_on_host(job, mapped(*shard) + offset);
        continue;
      }
      if (job.stored == job.dtype) {
        folder_.write(shard->file, offset, job.from, job.bytes);
        continue;
      }
      if (!scratch) scratch = std::make_unique_for_overwrite<std::byte[]>(kScratch);
      write_converted(job, shard->file, offset, scratch.get());
    }
  }
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  void write_converted(const CopyJob& job, std::size_t file, std::uint64_t offset,
                       std::byte* scratch) {
    // A step is of whole elements or blocks, and so is the job.
    const std::uint64_t from_width = dtype_block(job.stored).bytes;
    const std::uint64_t to_width = converted_bytes(from_width, job.stored, job.dtype);
    const std::uint64_t step = kScratch / std::max(from_width, to_width) * from_width;
    for (std::uint64_t at = 0; at < job.bytes; at += step) {
      CopyJob step_job = job;
      step_job.from += at;
      step_job.bytes = std::min(step, job.bytes - at);
      copy_on_host(step_job, scratch);
      folder_.write(file, offset + at / from_width * to_width, scratch,
                    step_job.bytes / from_width * to_width);
    }
  }

  // The mapping of a file, for tensors that are reordered: their bytes are written in no order.
  std::byte* mapped(const OutputShard& shard) {
    const std::scoped_lock lock(mutex_);
    std::unique_ptr<OutputMapping>& mapping = mappings_[shard.file];
    if (!mapping) mapping = folder_.map(shard.file, shard.layout.file_bytes);
    return mapping->data();
  }

  OutputFolder& folder_;
  std::span<const OutputShard> shards_;
  std::mutex mutex_;  // guards what follows
  std::map<std::size_t, std::unique_ptr<OutputMapping>> mappings_;
};

std::string shard_name(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  const auto digits = [](std::size_t value) {
    const std::string text = std::to_string(value);
    return text.size() < 5 ? std::string(5 - text.size(), '0') + text : text;
  };
  return "model-" + digits(number + 1) + "-of-" + digits(count) + ".safetensors";
}

class Conversion {
 public:
  Conversion(const Checkpoint& checkpoint, const std::vector<ConvertTensor>& tensors,
             const ConvertOptions& options)
      : checkpoint_(checkpoint), tensors_(tensors), options_(options) {}

  ConvertReport run(const std::vector<Companion>& companions, const std::filesystem::path& out) {
    require_staging(options_.staging);
    if (options_.max_shard_bytes == 0)
      throw Error("--max-shard-size 0: a file must hold something");
    if (tensors_.empty()) throw Error(checkpoint_.folder.string() + ": holds no tensor to convert");
    report_.before = host_memory();
    PeakSampler sampler(report_.before);
    start_ = std::chrono::steady_clock::now();
    for (const Shard& shard : checkpoint_.shards) check_unchanged(shard);

    lay_out();
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
  // Divides the tensors, in their order, among files; begins a new one where the next tensor would
  // make a file larger than max_shard_bytes.
  void lay_out() {
    outputs_.reserve(tensors_.size());
    std::uint64_t filled = 0;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const TensorInfo& info = checkpoint_.tensors.at(tensors_[i].source);
      outputs_.push_back({tensors_[i].name, tensors_[i].dtype, info.shape});
      const auto bytes = tensor_bytes(tensors_[i].dtype, info.shape);
      if (!bytes) throw Error("tensor " + quote(tensors_[i].name) + ": its size overflows");
      const bool full = !shards_.empty() && (*bytes > options_.max_shard_bytes ||
                                             filled > options_.max_shard_bytes - *bytes);
      if (shards_.empty() || full) {
        shards_.emplace_back();
        filled = 0;
      }
      shards_.back().tensors.push_back(i);
      filled += *bytes;
    }
    std::uint64_t base = 0;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      OutputShard& shard = shards_[i];
      shard.name = shard_name(i, shards_.size());
      std::vector<OutputTensor> own;
      for (const std::size_t tensor : shard.tensors) own.push_back(outputs_[tensor]);
      shard.layout = lay_out_safetensors(own);
      shard.base = base;
      if (__builtin_add_overflow(base, shard.layout.file_bytes, &base)) {
        throw Error("the size of what is to be written overflows");
      }
      report_.files.push_back({shard.name, shard.layout.file_bytes});
      report_.bytes_written += shard.layout.file_bytes;
    }
  }

  // Makes the schedule for one device, which is called a GPU so that all bytes go through staging.
  void make_schedule_to_files() {
    std::vector<std::uint64_t> address(tensors_.size());
    for (const OutputShard& shard : shards_) {
      for (std::size_t i = 0; i < shard.tensors.size(); ++i) {
        address[shard.tensors[i]] = shard.base + shard.layout.begin[i];
      }
    }
    Model& model = model_;
    model.checkpoint = checkpoint_;
    model.tree.modules.emplace_back();
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const TensorInfo& info = checkpoint_.tensors[tensors_[i].source];
      ModelTensor tensor;
      tensor.name = model.tree.names.add(tensors_[i].name);
      tensor.stored = info.dtype;
      tensor.dtype = tensors_[i].dtype;
      tensor.shape = info.shape;
      tensor.module = 0;
      tensor.source = tensors_[i].source;
      report_.converted += tensor.stored != tensor.dtype;
      model.tree.tensors.push_back(std::move(tensor));
    }
    report_.tensors = tensors_.size();
    Plan plan;
    plan.devices.push_back({.name = "files", .kind = DeviceKind::kCuda});
    plan.tensor_device.assign(tensors_.size(), 0);
    ScheduleOptions schedule;
    schedule.chunk_bytes = chunk_for(options_.staging);
    schedule.destination_offset = [&](TensorId id) { return address[id]; };
    schedule.cold = [&](std::uint32_t shard) {
      const Shard& file = checkpoint_.shards[shard];
      return is_cold(file, file_system_of(file.path), options_.io);
    };
    schedule_ = make_schedule(model, plan, schedule);
  }

  void create_files(OutputFolder& folder, const std::vector<Companion>& companions) {
    std::string index;
    if (shards_.size() > 1) {
      std::vector<std::string> names(tensors_.size());
      for (const OutputShard& shard : shards_) {
        for (const std::size_t tensor : shard.tensors) names[tensor] = shard.name;
      }
      index = safetensors_index(outputs_, names);
      report_.bytes_written += index.size();
    }
    std::uint64_t beside = 0;
    for (const Companion& companion : companions) {
      std::error_code ignored;
      beside += companion.from.empty() ? companion.text.size()
                                       : std::filesystem::file_size(companion.from, ignored);
    }
    folder.require_space(report_.bytes_written + beside);
    for (OutputShard& shard : shards_) {
      shard.file = folder.create(shard.name, shard.layout.file_bytes);
      folder.write(shard.file, 0, shard.layout.header);
    }
    if (!index.empty()) {
      folder.write(folder.create("model.safetensors.index.json", index.size()), 0, index);
    }
    for (const Companion& companion : companions) {
      if (!companion.from.empty()) {
        folder.copy(companion.from, companion.name);
      } else {
        folder.write(folder.create(companion.name, companion.text.size()), 0, companion.text);
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
    sinks.push_back(std::make_unique<FileSink>(folder, shards_));
    const std::uint64_t slot =
        std::min(slot_bytes(chunk_for(options_.staging)), schedule_.largest_staged);
    const std::uint64_t scratch = report_.converted > 0 ? kScratch : 0;
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
  const std::vector<ConvertTensor>& tensors_;
  const ConvertOptions& options_;
  std::chrono::steady_clock::time_point start_;
  std::vector<OutputTensor> outputs_;  // one for each of tensors_
  std::vector<OutputShard> shards_;
  Model model_;  // what the schedule was made for; it points into it
  Schedule schedule_;
  ConvertReport report_;
};

}  // namespace

ConvertReport convert(const Checkpoint& checkpoint, const std::vector<ConvertTensor>& tensors,
                      const std::vector<Companion>& companions, const std::filesystem::path& out,
                      const ConvertOptions& options) {
  return Conversion(checkpoint, tensors, options).run(companions, out);
}

}  // namespace berth

#include "runtime/load/device_sink.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "berth/error.h"
#include "cuda/block_format.h"
#include "cuda/device.h"
#include "cuda/group_tiling.h"
#include "cuda/reorder.h"
#include "runtime/io/memory.h"
#include "runtime/io/numa.h"
#include "runtime/kernels/group_stretch.h"
#include "runtime/quant/float_format.h"
#include "runtime/quant/weight_tables.h"

namespace berth {
namespace {

constexpr BlockFormat block_format(DType dtype) {
  return static_cast<BlockFormat>(static_cast<int>(dtype) - static_cast<int>(DType::kQ4_0));
}
// Both lists name the same formats in the same order; whoever adds one to either adds a line here.
static_assert(block_format(DType::kQ4_0) == BlockFormat::kQ4_0);
static_assert(block_format(DType::kQ4_1) == BlockFormat::kQ4_1);
static_assert(block_format(DType::kQ5_0) == BlockFormat::kQ5_0);
static_assert(block_format(DType::kQ5_1) == BlockFormat::kQ5_1);
static_assert(block_format(DType::kQ8_0) == BlockFormat::kQ8_0);
static_assert(block_format(DType::kQ4_K) == BlockFormat::kQ4_K);
static_assert(block_format(DType::kQ5_K) == BlockFormat::kQ5_K);
static_assert(block_format(DType::kQ6_K) == BlockFormat::kQ6_K);

// How many bytes are converted at once before they are reordered. On the host that is few enough to
// stay in the processor's cache.
constexpr std::uint64_t kHostStep = 64u << 10;
constexpr std::uint64_t kDeviceStep = 8u << 20;

// How a job reorders, in bytes of the elements that it makes. Blocks that stay blocks are moved
// whole, which adopt_stored() sees to.
Reorder reorder_of(const CopyJob& job) {
  const DTypeBlock block = dtype_block(job.dtype);
  const StoredForm& form = *job.form;
  const auto bytes = [&](std::uint64_t elements) {
    return static_cast<std::size_t>(elements / block.elements * block.bytes);
  };
  std::vector<ReorderDim> dims(form.sizes.size());
  std::uint64_t unit = 1;  // elements
  std::uint64_t to = 1;
  for (std::size_t k = dims.size(); k-- > 0;) {
    const std::uint64_t size = form.sizes[k];
    if (k + 1 == dims.size() && form.strides[k] == 1) {
      unit = size;  // a row, perhaps of blocks: its elements have no steps of whole bytes
    } else {
      dims[k] = {static_cast<std::size_t>(size), bytes(form.strides[k]), bytes(to)};
    }
    to *= size;
  }
  return make_reorder(dims, bytes(unit));
}

// Converts `bytes` bytes of whole `stored` elements at `from` to `dtype` elements at `to`.
void convert_on_host(const std::byte* from, std::uint64_t bytes, DType stored, std::byte* to,
                     DType dtype) {
  if (stored == dtype) {
    std::memcpy(to, from, bytes);
  } else if (is_decodable(stored)) {
    const BlockFormat format = block_format(stored);
    dequantize_on_host(from, format, to, float_format(dtype), bytes / block_size(format).bytes);
  } else {
    const FloatFormat format = float_format(stored);
    cast_on_host(from, format, to, float_format(dtype), bytes / float_bytes(format));
  }
}

// Calls work(offset, bytes) for one stretch of a job after the other, each of whole blocks, that
// become at most `most` bytes.
template <typename Work>
void in_steps(const CopyJob& job, std::uint64_t most, const Work& work) {
  const DTypeBlock stored = dtype_block(job.stored);
  const std::uint64_t wide = converted_bytes(stored.bytes, job.stored, job.dtype);
  const std::uint64_t step = most / wide * stored.bytes;
  for (std::uint64_t at = 0; at < job.bytes; at += step) work(at, std::min(step, job.bytes - at));
}

// Tiles a stretch of a matrix. Where its rows are stored in another order, the stretch goes piece
// by piece to the rows that it belongs to.
void tile_on_host(const CopyJob& job, std::byte* to) {
  if (!job.reorders()) {
    tile_stretch(*job.matrix, job.from, job.at, job.bytes, to);
    return;
  }
  for_each_unit(boxes_of(reorder_of(job), job.at, job.bytes),
                [&](std::size_t from, std::size_t at, std::size_t bytes) {
                  tile_stretch(*job.matrix, job.from + from, at, bytes, to);
                });
}

[[noreturn]] void refuse_tiles(const CopyJob& job, const char* why) {
  throw Error("no kernel computes with this weight as " + std::string(dtype_name(job.dtype)) +
              ": " + why + "; --dequantize makes a plain one of it");
}
[[noreturn]] void refuse_numbers(const CopyJob& job, const GroupedForm& form) {
  refuse_tiles(job, form.format == MatrixFormat::kMxfp4
                        ? "some scales of the weight are no powers of two"
                        : "some zero points are no whole numbers to 255");
}

// The form of the tiles that a job makes of packed values. Throws Error where there is none.
GroupedForm form_to_tile(const CopyJob& job) {
  const auto form = grouped_form(job.dtype);
  if (!form) refuse_tiles(job, "it has tiles for no quantised weights of several tensors");
  if (job.tables->on_host().groups != nullptr) {
    refuse_tiles(job, "the inputs of the weight are in an order of their own (act-order)");
  }
  return *form;
}

// Makes tiles of packed values. `to` has only zeros before the first stretch.
void tile_packed_on_host(const CopyJob& job, std::byte* to) {
  const GroupedForm form = form_to_tile(job);
  if (!tile_packed(job.tables->layout(), job.tables->on_host(), form, job.from, job.at, job.bytes,
                   to, job.tables->seams())) {
    refuse_numbers(job, form);
  }
}

// Copies to addresses instead of memory of its own.
class AddressSink final : public DeviceSink {
 public:
  explicit AddressSink(std::byte* base) : base_(base) {}
  std::byte* memory() const override { return base_; }
  std::shared_ptr<void> memory_owner() const override { return nullptr; }
  void copy(std::span<const CopyJob> jobs, std::uint32_t) override {
    for (const CopyJob& job : jobs) copy_on_host(job, base_ + job.to);
  }
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  std::byte* base_;
};

// Whether a job makes tiles of packed values, rather than plain numbers.
bool makes_tiles(const CopyJob& job) { return job.tables != nullptr && is_block_format(job.dtype); }

class HostSink final : public DeviceSink {
 public:
  explicit HostSink(HostArena arena) : arena_(std::make_shared<HostArena>(std::move(arena))) {}

  std::byte* memory() const override { return arena_->data(); }
  std::shared_ptr<void> memory_owner() const override { return arena_; }
  void copy(std::span<const CopyJob> jobs, std::uint32_t) override {
    for (const CopyJob& job : jobs) copy_on_host(job, arena_->data() + job.to);
  }
  bool done(std::uint32_t) override { return true; }
  void wait(std::uint32_t) override {}
  void finish() override {}
  void drain() noexcept override {}

 private:
  std::shared_ptr<HostArena> arena_;
};

class CudaSink final : public DeviceSink {
 public:
  // `owner` keeps `memory`; null where somebody else does.
  CudaSink(int ordinal, std::byte* memory, std::shared_ptr<void> owner, std::uint32_t slots,
           std::uint64_t slot_bytes, SinkNeeds needs)
      : memory_(memory),
        owner_(std::move(owner)),
        scratch_(ordinal, needs.raw ? slot_bytes : 0),
        converted_(ordinal, needs.converted ? kDeviceStep : 0),
        stream_(ordinal) {
    events_.reserve(slots);
    for (std::uint32_t i = 0; i < slots; ++i) events_.emplace_back(ordinal);
  }

  // What is copied from now on waits for the work of another stream.
  void wait_for(CudaStreamHandle stream) { stream_.wait_for(stream); }
  void fill_with_zeros(std::uint64_t bytes) { stream_.fill_with_zeros(memory_, bytes); }

  std::byte* memory() const override { return memory_; }
  std::shared_ptr<void> memory_owner() const override { return owner_; }

  // Whether zero points and scales are such as tiles can say is looked at once for each weight, by
  // the thread that copies its tables, while others go on.
  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    std::vector<const CopyJob*> with_new_tables;
    enqueue(jobs, slot, with_new_tables);
    for (const CopyJob* job : with_new_tables) {
      if (!makes_tiles(*job)) continue;
      const GroupedForm form = form_to_tile(*job);
      if (!says_all(form, job->tables->layout(), job->tables->on_host())) {
        refuse_numbers(*job, form);
      }
    }
  }

  // The tables' memory is used again for other tables. These are copied there later in the stream,
  // and so after everything that reads the old ones.
  void forget(const WeightTables* tables) override {
    const std::scoped_lock lock(mutex_);
    const auto held = tables_.find(tables);
    if (held == tables_.end()) return;
    idle_.push_back(std::move(held->second));
    tables_.erase(held);
  }

  bool done(std::uint32_t slot) override { return events_[slot].done(); }
  void wait(std::uint32_t slot) override { events_[slot].wait(); }
  void finish() override { stream_.synchronize(); }
  void drain() noexcept override { stream_.drain(); }

 private:
  // Converts from one address in device memory to another. A copy to the device came before, which
  // has selected the stream's device.
  void convert(const std::byte* from, std::uint64_t bytes, const CopyJob& job, std::byte* to) {
    const FloatFormat wanted = float_format(job.dtype);
    if (is_decodable(job.stored)) {
      const BlockFormat format = block_format(job.stored);
      dequantize_on_device(from, format, to, wanted, bytes / block_size(format).bytes,
                           stream_.handle());
    } else {
      const FloatFormat stored = float_format(job.stored);
      stream_.cast(from, stored, to, wanted, bytes / float_bytes(stored));
    }
  }

  // The stream keeps its order, so one scratch buffer is enough: a copy into it waits for the cast
  // out of it that came before. The lock keeps the copy and the cast of one job together.
  void enqueue(std::span<const CopyJob> jobs, std::uint32_t slot,
               std::vector<const CopyJob*>& with_new_tables) {
    const std::scoped_lock lock(mutex_);
    std::vector<CopyStream::Copy> plain;
    for (const CopyJob& job : jobs) {
      if (!job.as_it_is()) continue;
      plain.push_back({memory_ + job.to, job.from, job.bytes});
    }
    stream_.copy_to_device(plain);
    for (const CopyJob& job : jobs) {
      if (job.as_it_is()) continue;
      std::byte* to = memory_ + job.to;
      if (job.tables) {
        if (!tables_.contains(job.tables)) with_new_tables.push_back(&job);
        unpack(job, to);
        continue;
      }
      stream_.copy_to_device(scratch_.data(), job.from, job.bytes);
      if (!job.reorders()) {
        convert(scratch_.data(), job.bytes, job, to);
      } else if (job.stored == job.dtype) {
        reorder_on_device(scratch_.data(), job.at, job.bytes, reorder_of(job), to,
                          stream_.handle());
      } else {
        in_steps(job, kDeviceStep, [&](std::uint64_t at, std::uint64_t bytes) {
          convert(scratch_.data() + at, bytes, job, converted_.data());
          reorder_on_device(converted_.data(), converted_bytes(job.at + at, job.stored, job.dtype),
                            converted_bytes(bytes, job.stored, job.dtype), reorder_of(job), to,
                            stream_.handle());
        });
      }
    }
    stream_.record(events_[slot]);
  }

  // Makes tiles or plain numbers of packed values.
  void unpack(const CopyJob& job, std::byte* to) {
    const QuantLayout& layout = job.tables->layout();
    const QuantTables tables = job.tables->at(tables_of(*job.tables));
    stream_.copy_to_device(scratch_.data(), job.from, job.bytes);
    if (makes_tiles(job)) {
      tile_packed_on_device(layout, tables, group_tile(form_to_tile(job)), scratch_.data(), job.at,
                            job.bytes, to, stream_.handle());
    } else {
      stream_.dequantize(layout, tables, scratch_.data(), job.at, job.bytes, to,
                         float_format(job.dtype));
    }
  }

  struct Tables {
    DeviceArena memory;
    std::uint64_t bytes = 0;
  };

  // The copy of the tables in device memory, which is made at their first job. The host's memory is
  // pageable, so the driver has read all of it when the call returns.
  const std::byte* tables_of(const WeightTables& tables) {
    const auto [held, is_new] = tables_.try_emplace(&tables);
    if (!is_new) return held->second.memory.data();
    const std::span<const std::byte> bytes = tables.bytes();
    const auto fits = std::find_if(idle_.begin(), idle_.end(),
                                   [&](const Tables& idle) { return idle.bytes >= bytes.size(); });
    if (fits != idle_.end()) {
      held->second = std::move(*fits);
      idle_.erase(fits);
    } else {
      held->second = {DeviceArena(stream_.device(), bytes.size()), bytes.size()};
    }
    if (!bytes.empty()) {
      stream_.copy_to_device(held->second.memory.data(), bytes.data(), bytes.size());
    }
    return held->second.memory.data();
  }

  std::byte* memory_;
  std::shared_ptr<void> owner_;
  DeviceArena scratch_;
  DeviceArena converted_;
  std::map<const WeightTables*, Tables> tables_;
  std::vector<Tables> idle_;  // memory of forgotten tables, to be used again
  std::vector<CopyEvent> events_;
  CopyStream stream_;  // destroyed first, which waits for all that uses the members above
  std::mutex mutex_;   // guards the stream's order
};

}  // namespace

void copy_on_host(const CopyJob& job, std::byte* to) {
  if (makes_tiles(job)) {
    tile_packed_on_host(job, to);
    return;
  }
  if (job.tables) {
    dequantize_on_host(job.tables->layout(), job.tables->on_host(), job.from, job.at, job.bytes, to,
                       float_format(job.dtype));
    return;
  }
  if (job.matrix) {
    tile_on_host(job, to);
  } else if (!job.reorders()) {
    convert_on_host(job.from, job.bytes, job.stored, to, job.dtype);
  } else if (job.stored == job.dtype) {
    reorder_on_host(job.from, job.at, job.bytes, reorder_of(job), to);
  } else {
    alignas(64) std::byte converted[kHostStep];
    in_steps(job, kHostStep, [&](std::uint64_t at, std::uint64_t bytes) {
      convert_on_host(job.from + at, bytes, job.stored, converted, job.dtype);
      reorder_on_host(converted, converted_bytes(job.at + at, job.stored, job.dtype),
                      converted_bytes(bytes, job.stored, job.dtype), reorder_of(job), to);
    });
  }
}

void subtract_one(std::byte* values, std::uint64_t bytes) {
  for (std::uint64_t at = 0; at + sizeof(float) <= bytes; at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, values + at, sizeof value);
    value -= 1;
    std::memcpy(values + at, &value, sizeof value);
  }
}

std::unique_ptr<DeviceSink> make_host_sink(const std::string& device, std::uint64_t bytes,
                                           int node) {
  HostArena arena(bytes, "device " + device);
  if (node >= 0) prefer_node(arena.data(), arena.bytes(), node);
  return std::make_unique<HostSink>(std::move(arena));
}

std::unique_ptr<DeviceSink> make_address_sink(std::byte* base) {
  return std::make_unique<AddressSink>(base);
}

std::unique_ptr<DeviceSink> make_cuda_sink(int ordinal, std::uint64_t bytes, std::uint32_t slots,
                                           std::uint64_t slot_bytes, SinkNeeds needs) {
  auto arena = std::make_shared<DeviceArena>(ordinal, bytes);
  std::byte* const memory = arena->data();
  auto sink =
      std::make_unique<CudaSink>(ordinal, memory, std::move(arena), slots, slot_bytes, needs);
  if (needs.zeros) sink->fill_with_zeros(bytes);
  return sink;
}

std::unique_ptr<DeviceSink> make_cuda_sink_at(int ordinal, std::byte* base,
                                              std::span<const CudaStreamHandle> before,
                                              std::uint32_t slots, std::uint64_t slot_bytes,
                                              SinkNeeds needs) {
  auto sink = std::make_unique<CudaSink>(ordinal, base, nullptr, slots, slot_bytes, needs);
  for (const CudaStreamHandle stream : before) sink->wait_for(stream);
  return sink;
}

}  // namespace berth

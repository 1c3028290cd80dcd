#include "runtime/stream/schedule.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "runtime/stream/reader.h"

namespace berth {
namespace {

constexpr std::uint64_t kInPlaceChunk = 8u << 20;
constexpr std::uint64_t kDeviceAlignment = 512;  // of tensors in device memory, as torch aligns
constexpr std::uint64_t kHostAlignment = 64;     // of copied tensors in host memory

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

std::uint64_t element_bytes(DType dtype) { return std::max(1u, dtype_bits(dtype) / 8); }

// One storage that must be made: a stored tensor, wanted on a device as a dtype.
struct Demand {
  std::uint32_t source;
  std::uint32_t device;
  DType dtype;
  TensorId tensor;

  auto key() const { return std::tuple(source, device, dtype); }
};

class Builder {
 public:
  Builder(const Model& model, const Plan& plan, const ScheduleOptions& options)
      : model_(model), plan_(plan), options_(options), stored_(model.checkpoint->tensors) {
    schedule_.places.resize(model.tree.tensors.size());
    schedule_.arena_bytes.resize(plan.devices.size());
    schedule_.held_bytes.resize(plan.devices.size());
    const auto& tensors = model.tree.tensors;
    group_source_.resize(tensors.size(), kNone);
    for (TensorId id = 0; id < tensors.size(); ++id) group_source_[id] = tensors[id].source;
    for (TensorId id = 0; id < tensors.size(); ++id) {
      std::uint32_t& source = group_source_[root_of(id)];
      if (source == kNone) source = tensors[id].source;
    }
  }

  Schedule build() {
    for (TensorId id = 0; id < model_.tree.tensors.size(); ++id) place(id);
    std::sort(demands_.begin(), demands_.end(),
              [](const Demand& a, const Demand& b) { return a.key() < b.key(); });
    for (std::size_t first = 0; first < demands_.size();) {
      std::size_t last = first;
      while (last < demands_.size() && demands_[last].source == demands_[first].source) ++last;
      schedule_tensor(first, last);
      first = last;
    }
    close_run();
    merge_mapped();
    return std::move(schedule_);
  }

 private:
  // The first tensor of a tie group stands for all: one stored tensor serves them.
  TensorId root_of(TensorId id) const {
    const TensorId root = model_.tree.tensors[id].tied_to;
    return root < model_.tree.tensors.size() ? root : id;
  }

  [[noreturn]] void fail(const ModelTensor& tensor, const std::string& what) const {
    throw Error("tensor '" + tensor.name + "': " + what);
  }

  void place(TensorId id) {
    const ModelTensor& tensor = model_.tree.tensors[id];
    if (!tensor.persistent) return;  // in no checkpoint: the executor computes it
    const std::uint32_t source = group_source_[root_of(id)];
    if (source >= stored_.size()) {
      fail(tensor, "the checkpoint holds nothing for it, so it cannot be loaded");
    }
    const TensorInfo& info = stored_[source];
    const std::uint32_t device = plan_.tensor_device[id];
    if (device >= plan_.devices.size()) fail(tensor, "the plan names no device for it");
    if (!can_convert(info.dtype, tensor.dtype)) {
      fail(tensor, "is stored as " + std::string(dtype_name(info.dtype)) +
                       " and cannot be turned into " + std::string(dtype_name(tensor.dtype)));
    }
    Place& at = schedule_.places[id];
    at = {PlaceKind::kArena, source, device, 0, memory_bytes(info, tensor.dtype)};
    if (plan_.devices[device].kind == DeviceKind::kDisk) {
      // As stored it stays where it is; converted it is written once.
      at.kind = info.dtype == tensor.dtype ? PlaceKind::kDisk : PlaceKind::kOffload;
      if (at.kind == PlaceKind::kOffload) demands_.push_back({source, device, tensor.dtype, id});
    } else if (mappable(info, tensor, device)) {
      at.kind = PlaceKind::kMapped;
      at.offset = info.begin;
      schedule_.mapped.push_back({info.shard, info.begin, info.end});
    } else {
      demands_.push_back({source, device, tensor.dtype, id});
    }
  }

  bool mappable(const TensorInfo& info, const ModelTensor& tensor, std::uint32_t device) const {
    return plan_.devices[device].kind == DeviceKind::kCpu && plan_.cpu_memory == CpuMemory::kMmap &&
           info.dtype == tensor.dtype && info.begin % element_bytes(info.dtype) == 0 &&
           (!options_.mappable || options_.mappable(info.shard));
  }

  static std::uint64_t memory_bytes(const TensorInfo& info, DType dtype) {
    if (info.dtype == dtype) return info.bytes();
    return info.bytes() / element_bytes(info.dtype) * element_bytes(dtype);
  }

  // All demands for one stored tensor, [first, last): equal ones share a storage.
  void schedule_tensor(std::size_t first, std::size_t last) {
    const Demand& demand = demands_[first];
    const TensorInfo& info = stored_[demand.source];
    const bool single = demands_[last - 1].key() == demand.key();
    const bool in_place = single && plan_.devices[demand.device].kind == DeviceKind::kCpu &&
                          info.dtype == demand.dtype && info.begin % element_bytes(info.dtype) == 0;
    if (info.bytes() > 0) extend_run(info, in_place, demand.device);
    std::uint64_t offset = 0;
    for (std::size_t i = first; i < last; ++i) {
      if (i == first || demands_[i].key() != demands_[i - 1].key()) {
        offset = in_place ? in_place_offset(info) : staged_offset(info, demands_[i]);
        schedule_.held_bytes[demands_[i].device] += memory_bytes(info, demands_[i].dtype);
      }
      schedule_.places[demands_[i].tensor].offset = offset;
    }
  }

  // Makes [info.begin, info.end) the end of the open run, beginning a new one where it must.
  void extend_run(const TensorInfo& info, bool in_place, std::uint32_t device) {
    const bool joins = run_.open && run_.shard == info.shard && run_.end == info.begin &&
                       run_.in_place == in_place && (!in_place || run_.device == device);
    if (!joins) {
      close_run();
      run_ = {true, in_place, info.shard, device, info.begin, info.begin, 0};
      if (in_place) {
        run_.to = round_up(schedule_.arena_bytes[device], kBlock) + info.begin % kBlock;
      }
    }
    run_.end = info.end;
  }

  std::uint64_t in_place_offset(const TensorInfo& info) const {
    return info.bytes() == 0 ? 0 : run_.to + (info.begin - run_.begin);
  }

  std::uint64_t staged_offset(const TensorInfo& info, const Demand& demand) {
    const bool host = plan_.devices[demand.device].kind == DeviceKind::kCpu;
    std::uint64_t& used = schedule_.arena_bytes[demand.device];
    if (info.bytes() == 0) return 0;
    const std::uint64_t offset = round_up(used, host ? kHostAlignment : kDeviceAlignment);
    used = offset + memory_bytes(info, demand.dtype);
    run_pieces_.push_back(
        {info.begin, info.bytes(), offset, demand.device, info.dtype, demand.dtype});
    return offset;
  }

  void close_run() {
    if (!run_.open) return;
    run_.open = false;
    schedule_.bytes_to_read += run_.end - run_.begin;
    if (run_.in_place) {
      cut_in_place();
      schedule_.arena_bytes[run_.device] = round_up(run_.to + (run_.end - run_.begin), kBlock);
    } else {
      cut_staged();
      run_pieces_.clear();
    }
  }

  void cut_in_place() {
    for (std::uint64_t at = run_.begin; at < run_.end;) {
      const std::uint64_t stop = std::min(run_.end, (at / kInPlaceChunk + 1) * kInPlaceChunk);
      schedule_.chunks.push_back(
          {run_.shard, true, run_.device, at, stop, run_.to + (at - run_.begin), 0, 0});
      at = stop;
    }
  }

  void cut_staged() {
    const std::uint64_t step = options_.chunk_bytes;
    std::size_t first = 0;  // the first piece that reaches past `at`
    std::uint64_t at = run_.begin;
    for (std::uint64_t grid = (at / step + 1) * step; at < run_.end; grid += step) {
      while (run_pieces_[first].from + run_pieces_[first].bytes <= at) ++first;
      const std::uint64_t stop = grid < run_.end ? whole_elements(first, grid) : run_.end;
      if (stop == at) continue;  // the run begins within an element of the grid line
      const std::size_t before = schedule_.pieces.size();
      for (std::size_t i = first; i < run_pieces_.size() && run_pieces_[i].from < stop; ++i) {
        add_clipped(run_pieces_[i], at, stop, before);
      }
      schedule_.chunks.push_back({run_.shard, false, 0, at, stop, 0,
                                  static_cast<std::uint32_t>(before),
                                  static_cast<std::uint32_t>(schedule_.pieces.size() - before)});
      ++schedule_.staged_chunks;
      schedule_.largest_staged =
          std::max(schedule_.largest_staged, block_up(stop) - block_down(at));
      at = stop;
    }
  }

  // The greatest cut at or below `limit` that splits no element that is converted.
  std::uint64_t whole_elements(std::size_t first, std::uint64_t limit) const {
    for (std::size_t i = first; i < run_pieces_.size() && run_pieces_[i].from < limit; ++i) {
      const Piece& piece = run_pieces_[i];
      if (piece.from + piece.bytes > limit && piece.stored != piece.dtype) {
        return limit - (limit - piece.from) % element_bytes(piece.stored);
      }
    }
    return limit;
  }

  // Adds the part of `piece` within [begin, end), joined to a neighbour that goes on where it ends.
  void add_clipped(const Piece& piece, std::uint64_t begin, std::uint64_t end, std::size_t before) {
    Piece part = piece;
    part.from = std::max(piece.from, begin);
    const std::uint64_t stop = std::min(piece.from + piece.bytes, end);
    if (stop <= part.from) return;
    part.bytes = stop - part.from;
    part.to = piece.to +
              (part.from - piece.from) / element_bytes(piece.stored) * element_bytes(piece.dtype);
    if (piece.stored == piece.dtype) {
      part.to = piece.to + (part.from - piece.from);
      if (schedule_.pieces.size() > before) {
        Piece& last = schedule_.pieces.back();
        if (last.stored == last.dtype && last.device == part.device &&
            last.from + last.bytes == part.from && last.to + last.bytes == part.to) {
          last.bytes += part.bytes;
          return;
        }
      }
    }
    schedule_.pieces.push_back(part);
  }

  void merge_mapped() {
    auto& ranges = schedule_.mapped;
    std::sort(ranges.begin(), ranges.end(), [](const MappedRange& a, const MappedRange& b) {
      return std::tie(a.shard, a.begin, a.end) < std::tie(b.shard, b.begin, b.end);
    });
    std::size_t kept = 0;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      if (kept > 0 && ranges[kept - 1].shard == ranges[i].shard &&
          ranges[kept - 1].end >= ranges[i].begin) {
        ranges[kept - 1].end = std::max(ranges[kept - 1].end, ranges[i].end);
      } else {
        ranges[kept++] = ranges[i];
      }
    }
    ranges.resize(kept);
  }

  struct Run {
    bool open = false;
    bool in_place = false;
    std::uint32_t shard = 0;
    std::uint32_t device = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t to = 0;
  };

  const Model& model_;
  const Plan& plan_;
  const ScheduleOptions& options_;
  const std::vector<TensorInfo>& stored_;
  std::vector<std::uint32_t> group_source_;  // by the id of a group's first tensor
  std::vector<Demand> demands_;
  std::vector<Piece> run_pieces_;  // of the open staged run, by `from`
  Run run_;
  Schedule schedule_;
};

}  // namespace

std::uint64_t slot_bytes(std::uint64_t chunk_bytes) { return chunk_bytes + 2 * kBlock; }

bool can_convert(DType from, DType to) {
  return from == to || (is_convertible(from) && is_convertible(to));
}

void require_plan_of(const Model& model, const Plan& plan) {
  if (!model.checkpoint) {
    throw Error(model.path.string() + ": there are no weights here to load, only a description");
  }
  if (plan.tensor_device.size() != model.tree.tensors.size()) {
    throw Error("the plan is for another model: it places " +
                std::to_string(plan.tensor_device.size()) + " tensors, '" + model.tree.name +
                "' has " + std::to_string(model.tree.tensors.size()));
  }
}

Schedule make_schedule(const Model& model, const Plan& plan, const ScheduleOptions& options) {
  require_plan_of(model, plan);
  return Builder(model, plan, options).build();
}

}  // namespace berth

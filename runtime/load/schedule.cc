#include "runtime/load/schedule.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/memory.h"
#include "runtime/quant/quant_layout.h"

namespace berth {
namespace {

constexpr std::uint64_t kDeviceAlignment = 512;  // of tensors in device memory, as torch aligns
constexpr std::uint64_t kHostAlignment = 64;     // of staged tensors in host memory

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

// What the address of an element must be a multiple of: its size; blocks begin with 16-bit words.
std::uint64_t alignment(DType dtype) {
  return is_block_format(dtype) ? 2 : std::max(1u, dtype_bits(dtype) / 8);
}

// A storage that must be made: a tensor of the model wants a stored one on a device, as a dtype.
// Demands with equal keys share one storage.
struct Demand {
  std::uint32_t source;
  std::uint32_t device;
  DType dtype;
  TensorId tensor;
  std::uint32_t dequantization;  // ModelTensor::dequantization
  Tiling tiling;                 // of the Destination
  std::uint32_t matrix;

  auto key() const { return std::tuple(source, device, dtype); }
};

class Builder {
 public:
  Builder(const Model& model, const Plan& plan, const ScheduleOptions& options)
      : model_(model), plan_(plan), options_(options), stored_(model.checkpoint->tensors) {
    schedule_.destinations.resize(model.tree.tensors.size());
    schedule_.arena_bytes.resize(plan.devices.size());
    schedule_.held_bytes.resize(plan.devices.size());
    if (model.tree.quantized) schedule_.schemes = model.tree.quantized->schemes;
    const auto& tensors = model.tree.tensors;
    group_source_.resize(tensors.size(), kNone);
    for (TensorId id = 0; id < tensors.size(); ++id) group_source_[id] = tensors[id].source;
    for (TensorId id = 0; id < tensors.size(); ++id) {
      std::uint32_t& source = group_source_[root_of(id)];
      if (source == kNone) source = tensors[id].source;
    }
  }

  Schedule build() {
    for (TensorId id = 0; id < model_.tree.tensors.size(); ++id) choose_destination(id);
    std::sort(demands_.begin(), demands_.end(),
              [](const Demand& a, const Demand& b) { return a.key() < b.key(); });
    find_overlaps();
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
  // The first tensor of a tie group stands for all of it: one stored tensor serves them all.
  TensorId root_of(TensorId id) const {
    const TensorId root = model_.tree.tensors[id].tied_to;
    return root < model_.tree.tensors.size() ? root : id;
  }

  [[noreturn]] void fail(const ModelTensor& tensor, const std::string& what) const {
    throw Error("tensor " + quote(tensor.name) + ": " + what);
  }

  // Decides where a tensor will be, and adds a demand where a storage must be made for it.
  void choose_destination(TensorId id) {
    const ModelTensor& tensor = model_.tree.tensors[id];
    if (!tensor.persistent) return;  // no checkpoint stores it: the executor computes it
    const std::uint32_t source = group_source_[root_of(id)];
    if (source >= stored_.size()) {
      fail(tensor, "the checkpoint holds nothing for it, so it cannot be loaded");
    }
    const TensorInfo& info = stored_[source];
    const std::uint32_t device = plan_.tensor_device[id];
    if (device >= plan_.devices.size()) fail(tensor, "the plan names no device for it");
    const bool made = tensor.dequantization != kNone;
    if (!made && !can_convert(info.dtype, tensor.dtype)) {
      fail(tensor, "is stored as " + std::string(dtype_name(info.dtype)) +
                       " and cannot be turned into " + std::string(dtype_name(tensor.dtype)));
    }
    Destination& at = schedule_.destinations[id];
    at = {DestinationKind::kArena, source, device, 0,
          made ? tensor.bytes() : memory_bytes(info, tensor.dtype)};
    if (is_stored_in_tiles(info)) keep_or_undo_tiles(info, tensor, at);
    const bool map = at.tiling == Tiling::kKept && mappable(info, tensor, device);
    if (!map && at.matrix == kNone) make_tiles(info, tensor, at);
    if (plan_.devices[device].kind == DeviceKind::kDisk) {
      // A tensor that is only cast is written to the offload file once. Others stay in their shard;
      // those that are dequantised or put in another order are so at each fetch.
      const bool cast = !made && is_in_order(info) && info.dtype != tensor.dtype;
      at.kind = cast ? DestinationKind::kOffload : DestinationKind::kDisk;
      if (at.kind == DestinationKind::kOffload)
        demands_.push_back({source, device, tensor.dtype, id, kNone, at.tiling, at.matrix});
    } else if (map) {
      at.kind = DestinationKind::kMapped;
      at.offset = info.begin;
      schedule_.mapped.push_back({info.shard, info.begin, info.end});
    } else {
      demands_.push_back(
          {source, device, tensor.dtype, id, tensor.dequantization, at.tiling, at.matrix});
    }
  }

  bool is_stored_in_tiles(const TensorInfo& info) const {
    const StoredForm* const form = model_.checkpoint->form_of(info);
    return form != nullptr && form->tiled;
  }
  // Whether its elements stand in the order of the model, be it in rows or in tiles.
  bool is_in_order(const TensorInfo& info) const {
    return info.form == 0 || is_stored_in_tiles(info);
  }

  bool in_host_memory(std::uint32_t device) const {
    const DeviceKind kind = plan_.devices[device].kind;
    return options_.in_host_memory ? options_.in_host_memory(device)
                                   : kind == DeviceKind::kCpu || kind == DeviceKind::kDisk;
  }

  // Tiles stay where the kernels for host memory can compute on them, and somebody wants that.
  void keep_or_undo_tiles(const TensorInfo& info, const ModelTensor& tensor, Destination& at) {
    const auto shape = tiled_shape(info);
    if (!shape || tensor.dequantization != kNone) {
      fail(tensor, "is stored in tiles, which Berth has none of for " +
                       std::string(dtype_name(info.dtype)));
    }
    const bool kept = options_.tile && in_host_memory(at.device) && tensor.dtype == info.dtype;
    at.tiling = kept ? Tiling::kKept : Tiling::kUndone;
    at.matrix = static_cast<std::uint32_t>(schedule_.tiled.size());
    schedule_.tiled.push_back(*shape);
    if (kept) return;
    schedule_.largest_tile = std::max<std::uint64_t>(
        schedule_.largest_tile, kTileRows * stored_row_bytes(shape->format, shape->columns));
  }

  // A matrix that kernels compute on in tiles, and that can have them, gets them.
  void make_tiles(const TensorInfo& info, const ModelTensor& tensor, Destination& at) {
    const auto shape = tiled_shape(info);
    if (!options_.tile || !in_host_memory(at.device) || !shape || shape->tiled_rows() == 0 ||
        tensor.dtype != info.dtype || tensor.dequantization != kNone) {
      return;
    }
    at.tiling = Tiling::kMade;
    at.matrix = static_cast<std::uint32_t>(schedule_.tiled.size());
    schedule_.tiled.push_back(*shape);
  }

  bool mappable(const TensorInfo& info, const ModelTensor& tensor, std::uint32_t device) const {
    return tensor.dequantization == kNone && plan_.devices[device].kind == DeviceKind::kCpu &&
           plan_.cpu_memory == CpuMemory::kMmap && info.dtype == tensor.dtype &&
           is_in_order(info) && info.begin % alignment(info.dtype) == 0 &&
           (!options_.mappable || options_.mappable(info.shard));
  }

  std::uint64_t memory_bytes(const TensorInfo& info, const Demand& demand) const {
    return demand.dequantization != kNone ? model_.tree.tensors[demand.tensor].bytes()
                                          : memory_bytes(info, demand.dtype);
  }
  // Its elements side by side, however they are stored.
  static std::uint64_t memory_bytes(const TensorInfo& info, DType dtype) {
    return info.form == 0 ? converted_bytes(info.bytes(), info.dtype, dtype)
                          : tensor_bytes(dtype, info.shape).value_or(0);
  }

  // Finds demands whose stored tensor shares bytes with that of another demand, as views in
  // PyTorch's files do. Demands are in file order, so a tensor that overlaps any before it overlaps
  // the one among these that reaches furthest.
  void find_overlaps() {
    overlaps_.assign(demands_.size(), false);
    std::size_t furthest = 0;
    for (std::size_t i = 0; i < demands_.size(); ++i) {
      const TensorInfo& info = stored_[demands_[i].source];
      const TensorInfo& reach = stored_[demands_[furthest].source];
      if (info.bytes() == 0 || demands_[i].source == demands_[furthest].source) continue;
      if (info.shard == reach.shard && info.begin < reach.end) {
        overlaps_[i] = overlaps_[furthest] = true;
        if (info.end <= reach.end) continue;
      }
      furthest = i;
    }
    for (std::size_t i = demands_.size(); i-- > 1;) {  // what one demand for a tensor says, all say
      if (demands_[i].source == demands_[i - 1].source && overlaps_[i]) overlaps_[i - 1] = true;
    }
  }

  // Schedules one stored tensor, which all demands [first, last) want.
  void schedule_tensor(std::size_t first, std::size_t last) {
    const Demand& demand = demands_[first];
    const TensorInfo& info = stored_[demand.source];
    const bool single = demands_[last - 1].key() == demand.key();
    const bool in_place = single && !overlaps_[first] && demand.dequantization == kNone &&
                          plan_.devices[demand.device].kind == DeviceKind::kCpu &&
                          info.dtype == demand.dtype && is_in_order(info) &&
                          demand.tiling == Tiling::kKept && info.begin % alignment(info.dtype) == 0;
    if (info.bytes() > 0) extend_run(info, in_place, demand.device);
    if (demand.dequantization != kNone && info.bytes() > 0) add_weight(demand);
    std::uint64_t offset = 0;
    for (std::size_t i = first; i < last; ++i) {
      if (i == first || demands_[i].key() != demands_[i - 1].key()) {
        offset = in_place ? in_place_offset(info) : staged_offset(info, demands_[i]);
        schedule_.held_bytes[demands_[i].device] += memory_bytes(info, demands_[i]);
      }
      schedule_.destinations[demands_[i].tensor].offset = offset;
    }
  }

  // Adds a weight that will be dequantised: a demand's segments will be its packed values.
  void add_weight(const Demand& demand) {
    const ModelTree& tree = model_.tree;
    PackedWeight weight;
    weight.tensor = demand.tensor;
    weight.source = demand.source;
    weight.made = tree.quantized->weights[demand.dequantization];
    weight.layout = quant_layout(tree, demand.tensor, demand.source, *model_.checkpoint);
    for (const std::uint32_t part : weight.made.parts) {
      if (part < stored_.size()) schedule_.bytes_to_read += stored_[part].bytes();
    }
    schedule_.largest_tables = std::max(schedule_.largest_tables, weight.made.table_bytes);
    schedule_.weights.push_back(weight);
  }

  // Adds the bytes of a tensor to the open run, or begins a new run where they do not go on where
  // that one ends, or take another way. Tensors that overlap are all staged, in one run.
  void extend_run(const TensorInfo& info, bool in_place, std::uint32_t device) {
    const bool joins = run_.open && run_.shard == info.shard && run_.end >= info.begin &&
                       run_.in_place == in_place && (!in_place || run_.device == device);
    if (!joins) {
      close_run();
      run_ = {true, in_place, info.shard, device, info.begin, info.begin, 0};
      if (in_place) {
        run_.to = round_up(schedule_.arena_bytes[device], kBlock) + info.begin % kBlock;
      }
    }
    run_.end = std::max(run_.end, info.end);
  }

  std::uint64_t in_place_offset(const TensorInfo& info) const {
    return info.bytes() == 0 ? 0 : run_.to + (info.begin - run_.begin);
  }

  std::uint64_t staged_offset(const TensorInfo& info, const Demand& demand) {
    const bool host = plan_.devices[demand.device].kind == DeviceKind::kCpu;
    std::uint64_t& used = schedule_.arena_bytes[demand.device];
    if (info.bytes() == 0) return 0;
    const std::uint64_t offset = options_.destination_offset
                                     ? options_.destination_offset(demand.tensor)
                                     : round_up(used, host ? kHostAlignment : kDeviceAlignment);
    used = std::max(used, offset + memory_bytes(info, demand));
    Segment segment{info.begin,
                    info.bytes(),
                    offset,
                    demand.device,
                    info.dtype,
                    demand.dtype,
                    is_in_order(info) ? nullptr : model_.checkpoint->form_of(info)};
    segment.tiling = demand.tiling;
    if (demand.tiling != Tiling::kKept) segment.matrix = demand.matrix;
    if (demand.dequantization != kNone) {
      segment.weight = static_cast<std::uint32_t>(schedule_.weights.size() - 1);
    }
    run_segments_.push_back(segment);
    return offset;
  }

  // Whether the open run will be read from the disk.
  bool is_cold() {
    if (!options_.cold) return false;
    if (asked_ != run_.shard) {
      asked_ = run_.shard;
      cold_ = options_.cold(run_.shard);
    }
    return cold_;
  }

  void close_run() {
    if (!run_.open) return;
    run_.open = false;
    schedule_.any_cached |= !is_cold();
    schedule_.bytes_to_read += run_.end - run_.begin;
    if (run_.in_place) {
      cut_in_place();
      schedule_.arena_bytes[run_.device] = round_up(run_.to + (run_.end - run_.begin), kBlock);
    } else {
      cut_staged();
      run_segments_.clear();
    }
  }

  std::uint64_t cold_step() const { return std::min(options_.chunk_bytes, kColdChunk); }

  // Cuts the run along the large pages of the destination, because two threads that touch a fresh
  // page at the same time both clear a page, and one of the two is thrown away.
  void cut_in_place() {
    const std::uint64_t step = is_cold() ? cold_step() : kHugePage;
    const std::uint64_t end = run_.to + (run_.end - run_.begin);
    for (std::uint64_t to = run_.to; to < end;) {
      const std::uint64_t stop = std::min(end, (to / step + 1) * step);
      schedule_.chunks.push_back({run_.shard, true, is_cold(), run_.device,
                                  run_.begin + (to - run_.to), run_.begin + (stop - run_.to), to, 0,
                                  0});
      schedule_.bounced_chunks += is_cold();
      to = stop;
    }
  }

  void cut_staged() {
    const std::uint64_t step = is_cold() ? cold_step() : options_.chunk_bytes;
    std::size_t first = 0;  // the first segment that reaches past `at`
    std::uint64_t at = run_.begin;
    for (std::uint64_t grid = (at / step + 1) * step; at < run_.end; grid += step) {
      while (run_segments_[first].from + run_segments_[first].bytes <= at) ++first;
      const std::uint64_t stop = grid < run_.end ? whole_elements(first, grid) : run_.end;
      if (stop == at) continue;  // the element at `at` crosses this line of the grid
      if (stop - at > step + kBlock) {
        throw Error("tensors that overlap in shard " + std::to_string(run_.shard) + " near byte " +
                    std::to_string(at) +
                    " cannot be read in chunks: every cut would split an element");
      }
      const std::size_t before = schedule_.segments.size();
      for (std::size_t i = first; i < run_segments_.size() && run_segments_[i].from < stop; ++i) {
        add_clipped(run_segments_[i], at, stop, before);
      }
      schedule_.chunks.push_back({run_.shard, false, is_cold(), 0, at, stop, 0,
                                  static_cast<std::uint32_t>(before),
                                  static_cast<std::uint32_t>(schedule_.segments.size() - before)});
      ++schedule_.staged_chunks;
      schedule_.largest_staged =
          std::max(schedule_.largest_staged, block_up(stop) - block_down(at));
      at = stop;
    }
  }

  // The last offset at or below `limit` where the run can be cut without splitting an element that
  // is converted or reordered. Where tensors overlap, elements of several may be in the way; so
  // this goes down until none is.
  std::uint64_t whole_elements(std::size_t first, std::uint64_t limit) const {
    for (std::uint64_t before = limit + 1; before != limit;) {
      before = limit;
      for (std::size_t i = first; i < run_segments_.size() && run_segments_[i].from < limit; ++i) {
        const Segment& segment = run_segments_[i];
        if (segment.from + segment.bytes > limit && !segment.as_it_is()) {
          limit -= (limit - segment.from) % unit_of(segment);
        }
      }
    }
    return limit;
  }

  // How many bytes are converted together and must not be split.
  std::uint64_t unit_of(const Segment& segment) const {
    if (segment.tiling == Tiling::kUndone) {
      return tile_entry_bytes(schedule_.tiled[segment.matrix].format);
    }
    if (segment.weight == kNone) return dtype_block(segment.stored).bytes;
    return unit_bytes(schedule_.weights[segment.weight].layout.order);
  }

  // Adds to the chunk what of `segment` is within [begin, end); joins it to the segment before it
  // where one copy can do both. `before` is how many segments there were before this chunk.
  void add_clipped(const Segment& segment, std::uint64_t begin, std::uint64_t end,
                   std::size_t before) {
    Segment clipped = segment;
    clipped.from = std::max(segment.from, begin);
    const std::uint64_t stop = std::min(segment.from + segment.bytes, end);
    if (stop <= clipped.from) return;
    clipped.bytes = stop - clipped.from;
    if (clipped.weight != kNone) {
      ++schedule_.weights[clipped.weight].uses;
      schedule_.segments.push_back(clipped);
      return;
    }
    const bool reorders = segment.form != nullptr && segment.form->reorders();
    if (reorders || segment.tiling != Tiling::kKept) {
      clipped.at = clipped.from - segment.from;
    } else {
      clipped.to =
          segment.to + converted_bytes(clipped.from - segment.from, segment.stored, segment.dtype);
    }
    if (segment.as_it_is()) {
      if (schedule_.segments.size() > before) {
        Segment& last = schedule_.segments.back();
        if (last.as_it_is() && last.device == clipped.device &&
            last.from + last.bytes == clipped.from && last.to + last.bytes == clipped.to) {
          last.bytes += clipped.bytes;
          return;
        }
      }
    }
    schedule_.segments.push_back(clipped);
  }

  // Sorts the mapped ranges and joins those that touch or overlap.
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

  // Stored tensors without a gap between them that take the same way.
  struct Run {
    bool open = false;
    bool in_place = false;
    std::uint32_t shard = 0;
    std::uint32_t device = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t to = 0;  // in place: offset in the memory of `device` where `begin` goes
  };

  const Model& model_;
  const Plan& plan_;
  const ScheduleOptions& options_;
  const std::vector<TensorInfo>& stored_;
  std::vector<std::uint32_t> group_source_;  // by the id of a group's first tensor
  std::vector<Demand> demands_;
  std::vector<bool> overlaps_;  // by demand: its tensor shares bytes with another demanded one
  std::vector<Segment> run_segments_;  // of the open staged run, by `from`
  Run run_;
  std::uint32_t asked_ = kNone;  // the shard that cold_ is about
  bool cold_ = false;
  Schedule schedule_;
};

}  // namespace

std::optional<MatrixShape> tiled_shape(const TensorInfo& info) {
  const auto format = matrix_format(info.dtype);
  if (!format || !is_tiled(*format) || info.shape.size() != 2) return std::nullopt;
  return MatrixShape{*format, info.shape[0], info.shape[1]};
}

void require_plan_of(const Model& model, const Plan& plan) {
  if (!model.checkpoint) {
    throw Error(model.path.string() + ": there are no weights here to load, only a description");
  }
  if (plan.tensor_device.size() != model.tree.tensors.size()) {
    throw Error("the plan is for another model: it places " +
                std::to_string(plan.tensor_device.size()) + " tensors, " + quote(model.tree.name) +
                " has " + std::to_string(model.tree.tensors.size()));
  }
}

Schedule make_schedule(const Model& model, const Plan& plan, const ScheduleOptions& options) {
  require_plan_of(model, plan);
  return Builder(model, plan, options).build();
}

}  // namespace berth

#include "runtime/load/loaded_model.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/read_errors.h"
#include "runtime/load/streamer.h"
#include "runtime/load/untile.h"
#include "runtime/quant/quant_layout.h"

namespace berth {

Loaded::Loaded(const Model& model, const Plan& plan, const Schedule& schedule, Mappings mappings,
               std::span<const std::unique_ptr<DeviceSink>> sinks,
               const std::vector<bool>& emulated, WrapReader wrap_reader)
    : destinations_(schedule.destinations),
      tiled_(schedule.tiled),
      mappings_(std::move(mappings)),
      mapped_(schedule.mapped),
      wrap_reader_(std::move(wrap_reader)) {
  for (const auto& sink : sinks) {
    if (sink) memory_.push_back(sink->memory_owner());
  }
  const bool any_disk = std::any_of(
      destinations_.begin(), destinations_.end(),
      [](const Destination& destination) { return destination.kind == DestinationKind::kDisk; });
  if (any_disk) {
    checkpoint_ = *model.checkpoint;
    if (model.tree.quantized) schemes_ = model.tree.quantized->schemes;
  }
  checkpoint_.shards = model.checkpoint->shards;
  std::size_t ranks = 0;
  for (const ModelTensor& tensor : model.tree.tensors) ranks += tensor.shape.size();
  shapes_.reserve(ranks);  // never reallocated: tensors point into it
  tensors_.resize(destinations_.size());
  for (TensorId id = 0; id < destinations_.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    const Destination& destination = destinations_[id];
    LoadedTensor& loaded = tensors_[id];
    loaded.id = id;
    loaded.dtype = tensor.dtype;
    loaded.shape = shapes_.data() + shapes_.size();
    loaded.rank = tensor.shape.size();
    shapes_.insert(shapes_.end(), tensor.shape.begin(), tensor.shape.end());
    loaded.device = plan.tensor_device[id];
    loaded.bytes = destination.bytes;
    if (destination.matrix != kNone && destination.tiling != Tiling::kUndone)
      loaded.tiled_rows = tiled_[destination.matrix].tiled_rows();
    if (tensor.dequantization != kNone && is_block_format(tensor.dtype)) {
      // Of [experts, in, out] each expert was turned.
      loaded.tiled_rows = tensor.shape[0] * (tensor.shape.size() == 3 ? tensor.shape[2] : 1);
    }
    if (destination.device == kNone) continue;
    if (destination.kind == DestinationKind::kDisk && tensor.dequantization != kNone) {
      packed_[id] = {id, destination.source, model.tree.quantized->weights[tensor.dequantization],
                     quant_layout(model.tree, id, destination.source, *model.checkpoint), 0};
    }
    loaded.emulated = emulated[destination.device];
    if (destination.kind == DestinationKind::kArena) {
      loaded.data = sinks[destination.device]->memory() + destination.offset;
    } else if (destination.kind == DestinationKind::kMapped) {
      const std::uint32_t shard = model.checkpoint->tensors[destination.source].shard;
      loaded.data = mappings_.at(shard)->data() + destination.offset;
    }
  }
}

const LoadedTensor& Loaded::tensor(TensorId id) const {
  if (id >= tensors_.size()) throw Error("no tensor has the id " + std::to_string(id));
  return tensors_[id];
}

class Loaded::Fetching {
 public:
  explicit Fetching(const Loaded& loaded) : loaded_(loaded) {}

  // Reads the next bytes of the tensor number `source`, up to `end` of its shard, to `to`; compares
  // its checksum when all of them have been read.
  void read_next(std::uint32_t source, std::uint64_t begin, std::uint64_t end, std::byte* to) {
    const TensorInfo& info = loaded_.checkpoint_.tensors[source];
    read(info.shard, begin, end, to);
    if (!loaded_.verifier_) return;
    digest_.add({to, end - begin});
    if (end == info.end) loaded_.verifier_->check(source, digest_.finish());
  }

  // Reads a whole tensor, which is one of `candidates`, and compares its checksum.
  void read_whole(std::span<const std::uint32_t> candidates, std::uint32_t shard,
                  std::uint64_t begin, std::uint64_t end, std::byte* to) {
    read(shard, begin, end, to);
    if (!loaded_.verifier_) return;
    for (const std::uint32_t i : candidates) {
      if (i == kNone) continue;
      const TensorInfo& info = loaded_.checkpoint_.tensors[i];
      if (info.shard != shard || info.begin != begin || info.end != end) continue;
      loaded_.verifier_->check(i, digest_of({to, end - begin}));
    }
  }

  // To be called when everything has been read. Throws Error where a file has changed.
  void check_unchanged() const {
    for (const auto& [shard, file] : files_) {
      berth::check_unchanged(loaded_.checkpoint_.shards[shard], file.fd.get());
    }
  }

 private:
  // Reads bytes [begin, end) of a shard to `to`.
  void read(std::uint32_t shard, std::uint64_t begin, std::uint64_t end, std::byte* to) {
    const Checkpoint& checkpoint = loaded_.checkpoint_;
    auto [file, is_new] = files_.try_emplace(shard);
    if (is_new) {
      file->second.fd = open_shard(checkpoint.shards[shard]);
      file->second.reader = make_pread_reader(file->second.fd.get());
      if (loaded_.wrap_reader_) {
        file->second.reader =
            loaded_.wrap_reader_(std::move(file->second.reader), shard, IoEngine::kBuffered);
      }
    }
    require_complete(checkpoint, shard, end,
                     read_range(*file->second.reader, begin, end, to, false));
  }

  struct File {
    Descriptor fd;
    std::unique_ptr<Reader> reader;
  };
  const Loaded& loaded_;
  std::map<std::uint32_t, File> files_;
  OrderedDigest digest_;  // of the tensor that read_next() reads
};

HostBlock Loaded::fetch(TensorId id) const {
  const LoadedTensor& wanted = tensor(id);
  const Destination& destination = destinations_[id];
  if (destination.kind == DestinationKind::kOffload) {
    HostBlock block;
    block.bytes = destination.bytes;
    auto arena = std::make_shared<HostArena>(block.bytes, "tensor " + std::to_string(id));
    block.data = std::shared_ptr<std::byte[]>(arena, arena->data());
    offload_->read(destination.offset, block.data.get(), block.bytes);
    return block;
  }
  if (destination.kind != DestinationKind::kDisk) {
    throw Error("tensor " + std::to_string(id) + " is not on disk: its data is in memory already");
  }
  if (const auto packed = packed_.find(id); packed != packed_.end()) {
    return fetch_packed(packed->second, wanted.dtype, wanted.bytes);
  }
  const TensorInfo& info = checkpoint_.tensors[destination.source];
  Fetching file(*this);
  const StoredForm* form = checkpoint_.form_of(info);
  if (form != nullptr && form->tiled) form = nullptr;
  const MatrixShape* matrix =
      destination.tiling == Tiling::kMade ? &tiled_[destination.matrix] : nullptr;
  const bool undone = destination.tiling == Tiling::kUndone;
  const bool as_it_is =
      info.dtype == wanted.dtype && form == nullptr && destination.tiling == Tiling::kKept;
  HostBlock block;
  block.bytes = destination.bytes;
  auto arena = std::make_shared<HostArena>(block.bytes, "tensor " + quote(info.name));
  block.data = std::shared_ptr<std::byte[]>(arena, arena->data());
  if (as_it_is) {
    file.read_next(destination.source, info.begin, info.end, block.data.get());
  } else {
    // Steps of whole elements, which are converted while they are in the processor's cache.
    constexpr std::uint64_t kCached = 1u << 20;
    const std::uint64_t unit = undone ? tile_entry_bytes(tiled_[destination.matrix].format)
                                      : dtype_block(info.dtype).bytes;
    const std::uint64_t step = kCached - kCached % unit;
    const HostArena stored(std::min(step, info.bytes()), "converting a tensor");
    std::byte* to = block.data.get();
    for (std::uint64_t at = info.begin; at < info.end;) {
      const std::uint64_t stop = std::min(info.end, at + step);
      file.read_next(destination.source, at, stop, stored.data());
      if (undone) {
        for (const UntiledPiece& piece : untile_in_place(tiled_[destination.matrix], stored.data(),
                                                         at - info.begin, stop - at)) {
          copy_on_host({stored.data() + piece.from, piece.bytes, 0, info.dtype, wanted.dtype},
                       block.data.get() + converted_bytes(piece.at, info.dtype, wanted.dtype));
        }
        at = stop;
        continue;
      }
      if (form != nullptr && form->plus_one) subtract_one(stored.data(), stop - at);
      const CopyJob job{stored.data(), stop - at,       0,       info.dtype, wanted.dtype,
                        form,          at - info.begin, nullptr, matrix};
      copy_on_host(job, to);
      if (!job.reorders() && matrix == nullptr)
        to += converted_bytes(stop - at, info.dtype, wanted.dtype);
      at = stop;
    }
  }
  file.check_unchanged();
  return block;
}

// Reads a quantised weight and dequantises it, step by step.
HostBlock Loaded::fetch_packed(const PackedWeight& weight, DType dtype, std::uint64_t bytes) const {
  const TensorInfo& info = checkpoint_.tensors[weight.source];
  Fetching files(*this);
  const WeightTables tables(
      checkpoint_, weight, schemes_[weight.made.scheme],
      [&](std::uint32_t shard, std::uint64_t begin, std::uint64_t end, std::byte* at_begin) {
        files.read_whole(weight.made.parts, shard, begin, end, at_begin);
      });
  HostBlock block;
  block.bytes = bytes;
  auto arena = std::make_shared<HostArena>(bytes, "tensor " + quote(info.name));
  block.data = std::shared_ptr<std::byte[]>(arena, arena->data());
  // Whole units of packed values, few enough to stay in the processor's cache.
  constexpr std::uint64_t kStep = 1u << 20;
  const HostArena packed(std::min(kStep, info.bytes()), "dequantising a tensor");
  for (std::uint64_t at = info.begin; at < info.end; at += kStep) {
    const std::uint64_t stop = std::min(info.end, at + kStep);
    files.read_next(weight.source, at, stop, packed.data());
    copy_on_host(
        {packed.data(), stop - at, 0, info.dtype, dtype, nullptr, at - info.begin, &tables},
        block.data.get());
  }
  files.check_unchanged();
  return block;
}

void Loaded::look_at_zero_points(ZeroPointNotes& notes) const {
  for (const auto& [id, weight] : packed_) {
    const QuantScheme& scheme = schemes_[weight.made.scheme];
    const std::uint32_t zeros = weight.made.part(QuantRole::kZero);
    if (scheme.format != QuantFormat::kGptq || zeros == kNone) continue;
    Fetching files(*this);
    const ReadPart part = read_part(
        checkpoint_, zeros,
        [&](std::uint32_t shard, std::uint64_t begin, std::uint64_t end, std::byte* at_begin) {
          files.read_whole({&zeros, 1}, shard, begin, end, at_begin);
        });
    std::vector<float> values(count_scales(weight.layout));
    notes.add(scheme, read_zero_points(scheme, weight.layout, part, values),
              checkpoint_.tensors[zeros].name);
    files.check_unchanged();
  }
}

void Loaded::check_mapped() const {
  for (const MappedRange& range : mapped_) {
    if (mappings_.at(range.shard)->populate(range.end - 1, range.end)) continue;
    throw Error(checkpoint_.shards[range.shard].path.string() +
                ": the file became shorter while it was mapped, or the disk fails: tensors up to "
                "byte " +
                std::to_string(range.end) + " cannot be read any more; load again");
  }
}

void Loaded::verify_fetched(const std::filesystem::path& checksums) {
  verifier_ = std::make_unique<Verifier>(checkpoint_, checksums);
}

std::uint64_t Loaded::resident() const {
  constexpr std::uint64_t kLook = 1u << 30;        // bytes that are looked at in all, about
  constexpr std::uint64_t kLeastLook = 64u << 10;  // of each range
  std::uint64_t mapped = 0;
  for (const MappedRange& range : mapped_) mapped += range.end - range.begin;
  const double share = std::min(1.0, static_cast<double>(kLook) / static_cast<double>(mapped));
  std::uint64_t total = 0;
  for (const MappedRange& range : mapped_) {
    const auto look = static_cast<double>(range.end - range.begin) * share;
    total += mappings_.at(range.shard)
                 ->resident(range.begin, range.end,
                            std::max(kLeastLook, static_cast<std::uint64_t>(look)));
  }
  return total;
}

std::uint64_t Loaded::bytes_on(std::uint32_t device) const {
  // Tied tensors are one storage. Two stored tensors are two, even where they share their bytes in
  // the file, as they may in PyTorch's files, and a mapping therefore gives both one address.
  std::set<std::pair<std::uint32_t, DType>> seen;  // stored tensor, and the dtype that it became
  std::uint64_t total = 0;
  for (const LoadedTensor& tensor : tensors_) {
    if (tensor.device != device || tensor.bytes == 0) continue;
    if (seen.emplace(destinations_[tensor.id].source, tensor.dtype).second) total += tensor.bytes;
  }
  return total;
}

}  // namespace berth

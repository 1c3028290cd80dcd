#include "runtime/stream/loaded_model.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "runtime/stream/streamer.h"

namespace berth {

Loaded::Loaded(const Model& model, const Plan& plan, const Schedule& schedule, Mappings mappings,
               std::span<const std::unique_ptr<CopyEngine>> engines,
               const std::vector<bool>& emulated, WrapReader wrap_reader)
    : places_(schedule.places),
      mappings_(std::move(mappings)),
      mapped_(schedule.mapped),
      wrap_reader_(std::move(wrap_reader)) {
  for (const auto& engine : engines) {
    if (engine) memory_.push_back(engine->memory_owner());
  }
  const bool any_disk = std::any_of(places_.begin(), places_.end(),
                                    [](const Place& p) { return p.kind == PlaceKind::kDisk; });
  if (any_disk) checkpoint_ = *model.checkpoint;
  checkpoint_.shards = model.checkpoint->shards;
  std::size_t ranks = 0;
  for (const ModelTensor& tensor : model.tree.tensors) ranks += tensor.shape.size();
  shapes_.reserve(ranks);  // never reallocated: tensors point into it
  tensors_.resize(places_.size());
  for (TensorId id = 0; id < places_.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    const Place& place = places_[id];
    LoadedTensor& loaded = tensors_[id];
    loaded.id = id;
    loaded.dtype = tensor.dtype;
    loaded.shape = shapes_.data() + shapes_.size();
    loaded.rank = tensor.shape.size();
    shapes_.insert(shapes_.end(), tensor.shape.begin(), tensor.shape.end());
    loaded.device = plan.tensor_device[id];
    loaded.bytes = place.bytes;
    if (place.device == kNone) continue;
    loaded.emulated = emulated[place.device];
    if (place.kind == PlaceKind::kArena) {
      loaded.data = engines[place.device]->memory() + place.offset;
    } else if (place.kind == PlaceKind::kMapped) {
      const std::uint32_t shard = model.checkpoint->tensors[place.source].shard;
      loaded.data = mappings_.at(shard)->data() + place.offset;
    }
  }
}

const LoadedTensor& Loaded::tensor(TensorId id) const {
  if (id >= tensors_.size()) throw Error("no tensor has the id " + std::to_string(id));
  return tensors_[id];
}

HostBlock Loaded::fetch(TensorId id) const {
  tensor(id);  // throws for one that is not there
  const Place& place = places_[id];
  if (place.kind == PlaceKind::kOffload) {
    HostBlock block;
    block.bytes = place.bytes;
    auto arena = std::make_shared<HostArena>(block.bytes, "tensor " + std::to_string(id));
    block.data = std::shared_ptr<std::byte[]>(arena, arena->data());
    offload_->read(place.offset, block.data.get(), block.bytes);
    return block;
  }
  if (place.kind != PlaceKind::kDisk) {
    throw Error("tensor " + std::to_string(id) + " is not on disk: its data is in memory already");
  }
  const TensorInfo& info = checkpoint_.tensors[place.source];
  const Shard& shard = checkpoint_.shards[info.shard];
  const Descriptor fd = open_shard(shard);
  std::unique_ptr<Reader> reader = make_pread_reader(fd.get());
  if (wrap_reader_) reader = wrap_reader_(std::move(reader), info.shard, IoEngine::kBuffered);
  const auto read = [&](std::uint64_t begin, std::uint64_t end, std::byte* to) {
    require_complete(checkpoint_, info.shard, end, read_range(*reader, begin, end, to, false));
  };

  HostBlock block;
  block.bytes = info.bytes();
  auto arena = std::make_shared<HostArena>(block.bytes, "tensor '" + info.name + "'");
  block.data = std::shared_ptr<std::byte[]>(arena, arena->data());
  read(info.begin, info.end, block.data.get());
  check_unchanged(shard, fd.get());
  if (verifier_) verifier_->check(place.source, {block.data.get(), block.bytes});
  return block;
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
  std::uint64_t total = 0;
  for (const MappedRange& range : mapped_) {
    total += mappings_.at(range.shard)->resident(range.begin, range.end);
  }
  return total;
}

std::uint64_t Loaded::bytes_on(std::uint32_t device) const {
  std::set<std::pair<const void*, std::uint32_t>> seen;  // storage, or the stored tensor on disk
  std::uint64_t total = 0;
  for (const LoadedTensor& tensor : tensors_) {
    if (tensor.device != device || tensor.bytes == 0) continue;
    const std::uint32_t key = tensor.data ? kNone : places_[tensor.id].source;
    if (seen.emplace(tensor.data, key).second) total += tensor.bytes;
  }
  return total;
}

}  // namespace berth

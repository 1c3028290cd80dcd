// Loads the plain way. For a fair comparison it is not slowed down anywhere.
#include "runtime/load/naive.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "berth/error.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/io/memory.h"
#include "runtime/io/read_errors.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/device_sink.h"
#include "runtime/load/schedule.h"
#include "runtime/load/streamer.h"
#include "runtime/load/untile.h"
#include "runtime/quant/quant_layout.h"
#include "runtime/quant/weight_tables.h"

namespace berth {
namespace {

// Memory of one tensor, allocated as a framework would allocate it.
using Block = std::shared_ptr<std::byte[]>;

Block make_block(std::uint64_t bytes) { return Block(new std::byte[bytes]); }

}  // namespace

NaiveReport load_naively(const Model& model) {
  if (!model.checkpoint) {
    throw Error(model.path.string() + ": there are no weights here to load, only a description");
  }
  const Checkpoint& checkpoint = *model.checkpoint;
  NaiveReport report;
  malloc_trim(0);  // else memory that the heap holds unused would hide allocations from the report
  report.before = host_memory();
  PeakSampler sampler(report.before);
  const auto start = std::chrono::steady_clock::now();

  // Makes the model as its constructor does: every parameter is allocated and initialised.
  std::vector<Block> built(model.tree.tensors.size());
  for (TensorId id = 0; id < built.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    built[id] = make_block(tensor.bytes());
    std::memset(built[id].get(), 0, tensor.bytes());
  }

  // Reads the whole state dict beside it.
  std::vector<Block> state(checkpoint.tensors.size());
  for (std::uint32_t shard = 0, next = 0; shard < checkpoint.shards.size(); ++shard) {
    const Descriptor fd = open_shard(checkpoint.shards[shard]);
    const std::unique_ptr<Reader> reader = make_pread_reader(fd.get());
    for (; next < checkpoint.tensors.size() && checkpoint.tensors[next].shard == shard; ++next) {
      const TensorInfo& info = checkpoint.tensors[next];
      const TensorInfo* previous = next > 0 ? &checkpoint.tensors[next - 1] : nullptr;
      if (previous && previous->shard == shard && previous->begin == info.begin &&
          previous->end == info.end) {
        state[next] = state[next - 1];  // two names of one storage
        continue;
      }
      state[next] = make_block(info.bytes());
      require_complete(checkpoint, shard, info.end,
                       read_range(*reader, info.begin, info.end, state[next].get(), false));
    }
  }

  const auto from_state = [&](std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                              std::byte* at_begin) {
    const auto info = std::find_if(
        checkpoint.tensors.begin(), checkpoint.tensors.end(), [&](const TensorInfo& tensor) {
          return tensor.shard == shard && tensor.begin == begin && tensor.end == end;
        });
    const auto index = static_cast<std::size_t>(info - checkpoint.tensors.begin());
    std::memcpy(at_begin, state[index].get(), end - begin);
  };

  // Copies the state dict into the model, as load_state_dict() does.
  std::vector<bool> untiled(checkpoint.tensors.size(), false);
  for (TensorId id = 0; id < built.size(); ++id) {
    const ModelTensor& tensor = model.tree.tensors[id];
    if (!built[id] || tensor.source == kNone) continue;
    const TensorInfo& info = checkpoint.tensors[tensor.source];
    if (tensor.dequantization != kNone) {
      const PackedWeight weight{id, tensor.source,
                                model.tree.quantized->weights[tensor.dequantization],
                                quant_layout(model.tree, id, tensor.source, checkpoint), 0};
      const WeightTables tables(checkpoint, weight,
                                model.tree.quantized->schemes[weight.made.scheme], from_state);
      copy_on_host({state[tensor.source].get(), info.bytes(), 0, info.dtype, tensor.dtype, nullptr,
                    0, &tables},
                   built[id].get());
      continue;
    }
    const StoredForm* form = checkpoint.form_of(info);
    if (form != nullptr && form->plus_one) subtract_one(state[tensor.source].get(), info.bytes());
    const auto shape = tiled_shape(info);
    if (form != nullptr && form->tiled && shape && !untiled[tensor.source]) {
      untile_in_place(*shape, state[tensor.source].get(), 0, info.bytes());
      untiled[tensor.source] = true;
    }
    copy_on_host({state[tensor.source].get(), info.bytes(), 0, info.dtype, tensor.dtype, form},
                 built[id].get());
  }
  state.clear();

  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.after = host_memory();
  report.host_peak_bytes = sampler.stop();
  return report;
}

}  // namespace berth

// convert_for_cpu(): lays out GGUF files whose matrices are in tiles; write_files() fills them.
#include <algorithm>
#include <iterator>
#include <utility>

#include "berth/error.h"
#include "berth/loader.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/layout.h"
#include "runtime/convert/shard_names.h"
#include "runtime/convert/write_files.h"
#include "runtime/load/schedule.h"

namespace berth {
namespace {

// One tensor of the GGUF model, with all its experts, and what of the checkpoint it is.
struct Whole {
  GgufTensor tensor;
  std::uint32_t shard = 0;
  std::vector<std::uint32_t> parts;  // indices into Checkpoint::tensors; none: a setting
};

// Whether a stored tensor is a matrix whose blocks can be put in tiles: none may be cut to bring
// its rows into the model's order.
bool can_be_tiled(const Checkpoint& checkpoint, const TensorInfo& info) {
  const auto shape = tiled_shape(info);
  const StoredForm* const form = checkpoint.form_of(info);
  if (!shape || shape->tiled_rows() == 0) return false;
  return form == nullptr || form->run() % dtype_block(info.dtype).elements == 0;
}

class ForCpu {
 public:
  ForCpu(const Model& model, std::uint64_t most_bytes)
      : stored_(*model.checkpoint), most_bytes_(most_bytes) {}

  // The checkpoint with one tensor for each that is written, and where these go.
  std::pair<Checkpoint, FilesToWrite> lay_out() {
    read_heads();
    find_parts();
    divide();
    set_bases(wanted_.files);
    for (std::size_t i = 0; i < wholes_.size(); ++i) add(wholes_[i], begin_[i], file_of_[i]);
    wanted_.tile = true;
    return {std::move(source_), std::move(wanted_)};
  }

 private:
  void read_heads() {
    for (std::uint32_t i = 0; i < stored_.shards.size(); ++i) {
      Shard now;
      heads_.push_back(read_gguf_header(stored_.shards[i].path, {}, now));
      for (const GgufTensor& tensor : heads_.back().tensors()) wholes_.push_back({tensor, i, {}});
    }
  }

  // Tensors of the checkpoint and of the heads are both by shard and by offset.
  void find_parts() {
    bool any = false;
    for (std::uint32_t i = 0; i < stored_.tensors.size(); ++i) {
      const TensorInfo& info = stored_.tensors[i];
      const auto whole = std::upper_bound(
          wholes_.begin(), wholes_.end(), info, [](const TensorInfo& of, const Whole& other) {
            return std::pair(of.shard, of.begin) < std::pair(other.shard, other.tensor.begin);
          });
      if (whole == wholes_.begin() || std::prev(whole)->shard != info.shard ||
          std::prev(whole)->tensor.end < info.end) {
        throw Error("tensor " + quote(info.name) + ": the file is not the one that was opened");
      }
      std::prev(whole)->parts.push_back(i);
    }
    for (Whole& whole : wholes_) {
      whole.tensor.tiled =
          !whole.parts.empty() && std::ranges::all_of(whole.parts, [&](std::uint32_t part) {
            return can_be_tiled(stored_, stored_.tensors[part]);
          });
      any |= whole.tensor.tiled;
    }
    if (any) return;
    throw Error(stored_.shards[0].path.string() +
                ": no weights to put in tiles: none are in a block format that Berth's kernels "
                "compute on, and plain ones are computed on as they are stored");
  }

  void divide() {
    std::vector<std::vector<GgufTensor>> tensors;
    FilesBySize files(most_bytes_);
    for (const Whole& whole : wholes_) {
      if (files.begins(whole.tensor.end - whole.tensor.begin)) tensors.emplace_back();
      tensors.back().push_back(whole.tensor);
      file_of_.push_back(tensors.size() - 1);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const GgufSplitNumber split{static_cast<std::uint32_t>(i),
                                  static_cast<std::uint32_t>(tensors.size()), wholes_.size()};
      GgufLayout layout = lay_out_gguf(heads_[0], tensors[i], split);
      begin_.insert(begin_.end(), layout.begin.begin(), layout.begin.end());
      OutputFile file;
      file.name = shard_name(i, tensors.size(), kGgufExtension);
      file.head = std::move(layout.head);
      file.bytes = layout.file_bytes;
      wanted_.files.push_back(std::move(file));
    }
    source_ = stored_;
    source_.tensors.clear();
  }

  // What becomes tiles is written matrix by matrix, with its rows in the model's order. All else
  // is copied as it is.
  void add(const Whole& whole, std::uint64_t begin, std::size_t file) {
    const std::uint64_t to = wanted_.files[file].base + begin;
    if (whole.tensor.tiled) {
      for (const std::uint32_t part : whole.parts) {
        const TensorInfo& info = stored_.tensors[part];
        append(info, to + (info.begin - whole.tensor.begin));
      }
      return;
    }
    TensorInfo info;
    info.name = whole.tensor.name;
    info.dtype = whole.tensor.dtype;
    info.shape = {1};
    for (const std::uint64_t size : whole.tensor.shape) info.shape[0] *= size;
    info.shard = whole.shard;
    info.begin = whole.tensor.begin;
    info.end = whole.tensor.end;
    append(info, to);
  }

  void append(const TensorInfo& info, std::uint64_t to) {
    const auto source = static_cast<std::uint32_t>(source_.tensors.size());
    source_.tensors.push_back(info);
    wanted_.tensors.push_back({{}, source, info.dtype, to});
  }

  const Checkpoint& stored_;
  std::uint64_t most_bytes_;
  std::vector<GgufHeader> heads_;  // by shard
  std::vector<Whole> wholes_;
  std::vector<std::uint64_t> begin_;  // by whole: offset in its file
  std::vector<std::size_t> file_of_;  // by whole
  Checkpoint source_;
  FilesToWrite wanted_;
};

}  // namespace

ConvertReport convert_for_cpu(const Model& model, const std::filesystem::path& out,
                              const ConvertOptions& options) {
  check_convert_options(options);
  const std::string name = model.path.string();
  if (!model.checkpoint || model.checkpoint->format != CheckpointFormat::kGguf) {
    throw Error(name + ": is no GGUF model, and only the block formats of GGUF have tiles");
  }
  if (model.config == nullptr) {
    throw Error(name +
                ": is planned by the names in it: Berth runs no such model, so that nobody "
                "could read its tiles");
  }
  if (has_tiles(*model.checkpoint)) throw Error(name + ": its weights are in tiles already");
  auto [source, wanted] = ForCpu(model, options.max_shard_bytes).lay_out();
  for (WrittenTensor& tensor : wanted.tensors) {
    tensor.name = source.tensors[tensor.source].name;
  }
  return write_files(source, std::move(wanted), {}, out, options);
}

}  // namespace berth

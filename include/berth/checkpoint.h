// What a checkpoint holds on disk, known from its headers alone: plain values. open_model()
// (planner.h) makes them, without reading a byte of the weights.
//
// Tensors of a PyTorch file may share bytes: those that are tied have the same range, and views of
// one storage overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"

namespace berth {

// A tensor in a file: bytes [begin, end) of its shard, counted from the start of the file. They are
// as many as its shape needs, but where its form says otherwise.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint32_t shard = 0;  // index into Checkpoint::shards
  std::uint32_t form =
      0;  // 0: stored as `shape` says; else an index into Checkpoint::forms, plus 1
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t bytes() const { return end - begin; }
};

// How the elements of a tensor stand in its file where that is not as its shape says: in GGUF
// files, those that Berth wrote for CPUs among them, and for the transposed, expanded and sliced
// views of PyTorch's.
struct StoredForm {
  // Where `sizes` is not empty, the tensor is taken as one of these sizes, row-major, and its
  // element (i, j, ...) stands in the file at element i * strides[0] + j * strides[1] + ... of the
  // tensor's range. Several elements may stand at one place, and places may belong to none.
  Shape sizes = {};
  Shape strides = {};     // of a block format: whole blocks, but the last, which is 1
  bool plus_one = false;  // the file has F32 values that are greater by one than the model's
  // A matrix of a block format whose whole groups of 16 rows are in tiles, as Berth's kernels want
  // them: the same bytes in another order (docs/tiles.md). Its rows are in the model's order, so
  // `sizes` is empty.
  bool tiled = false;

  bool reorders() const { return !sizes.empty(); }
  // How many elements stand side by side in the file as in the tensor.
  std::uint64_t run() const {
    return reorders() && strides[strides.size() - 1] == 1 ? sizes[sizes.size() - 1] : 1;
  }
  bool operator==(const StoredForm&) const = default;
};

// A file as it was when its header was read. load() compares it before and after it reads, and
// refuses a file that has changed.
struct Shard {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::uint64_t device = 0;   // st_dev
  std::uint64_t inode = 0;    // st_ino
  std::int64_t mtime_ns = 0;  // st_mtim, nanoseconds
};

// What writes the files of a checkpoint: safetensors, llama.cpp or torch.save.
enum class CheckpointFormat : std::uint8_t { kSafetensors, kGguf, kTorch };

// All files of a model together.
struct Checkpoint {
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  // The folder of the shards, and of config.json if the format does not have it inside its files.
  std::filesystem::path folder;
  std::vector<Shard> shards;        // sorted by name
  std::vector<TensorInfo> tensors;  // by shard, then by offset; names are unique
  std::vector<StoredForm> forms;    // TensorInfo::form is an index into them, plus 1
  std::vector<std::string> notes;   // what was found otherwise than it should be, one line each

  std::uint64_t bytes() const;  // of all tensors; bytes that several share count once
  // Null where the tensor is stored as its shape says.
  const StoredForm* form_of(const TensorInfo& tensor) const {
    return tensor.form == 0 ? nullptr : &forms[tensor.form - 1];
  }
};

// Whether matrices of the checkpoint are in tiles (StoredForm::tiled).
bool has_tiles(const Checkpoint& checkpoint);

}  // namespace berth

// What a checkpoint holds on disk, known from its headers alone: plain values. open_model()
// (planner.h) makes them, without reading a byte of the weights.
//
// Tensors of a PyTorch file may share bytes: tied ones have one range, and views overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"

namespace berth {

// One tensor's place: bytes [begin, end) of the shard's file, offsets from the start of the file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint32_t shard = 0;  // index into Checkpoint::shards
  std::uint32_t form = 0;  // 0: stored as it is; else one more than an index into Checkpoint::forms
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t bytes() const { return end - begin; }
};

// How a tensor's elements stand in the file where that is not how `shape` says. GGUF has such.
struct StoredForm {
  // Where `unit` is not 0: the file has them as [groups, rows, columns, unit], the tensor as
  // [groups, columns, rows, unit], both row-major; there are as many groups as the size leaves.
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::uint64_t unit = 0;  // elements that stay together; of a block format, whole blocks
  bool plus_one = false;   // F32 values that are greater by one than the model's

  bool reorders() const { return unit != 0; }
  bool operator==(const StoredForm&) const = default;
};

// A file as it was when its header was read; a loader compares it again before and after reading.
struct Shard {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::uint64_t device = 0;   // st_dev
  std::uint64_t inode = 0;    // st_ino
  std::int64_t mtime_ns = 0;  // st_mtim, nanoseconds
};

// How the files of a checkpoint are written: by safetensors, by llama.cpp, by torch.save.
enum class CheckpointFormat : std::uint8_t { kSafetensors, kGguf, kTorch };

struct Checkpoint {
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  // Holds the shards, and beside them config.json where the format does not have it inside.
  std::filesystem::path folder;
  std::vector<Shard> shards;        // sorted by name
  std::vector<TensorInfo> tensors;  // by shard, then by offset; names are unique
  std::vector<StoredForm> forms;    // that TensorInfo::form names

  std::uint64_t bytes() const;  // of all tensors, shared ones once
  // Null where the tensor is stored as it is.
  const StoredForm* form_of(const TensorInfo& tensor) const {
    return tensor.form == 0 ? nullptr : &forms[tensor.form - 1];
  }
};

// Limits of the format's reference implementation, and ours where it has none.
struct CheckpointLimits {
  std::uint64_t header_bytes = 100'000'000;
  std::uint64_t tensors = 2'000'000;  // in all shards
  std::uint64_t shards = 100'000;
  std::uint64_t rank = 64;
  std::uint64_t name_bytes = 4096;
};

}  // namespace berth

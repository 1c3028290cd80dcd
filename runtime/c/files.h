// What is behind a berth_files: a checkpoint, the list of its tensors for the caller, and the
// mappings of its files.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "berth/berth_c.h"
#include "berth/checkpoint.h"
#include "runtime/load/tensor_memory.h"

struct berth_files {
  explicit berth_files(berth::Checkpoint opened);

  // The mapping of a shard, which is made when it is first asked for. Throws Error.
  std::shared_ptr<berth::TensorMemory> mapping(std::uint32_t shard) const;

  berth::Checkpoint checkpoint;
  std::vector<std::string> paths;             // by shard
  std::vector<std::uint32_t> first_of_shard;  // by shard: its first tensor; and their number
  std::string names;                          // one after another, each with its zero
  std::vector<std::uint64_t> shapes;          // one after another
  std::vector<berth_tensor> tensors;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<berth::TensorMemory>> mappings_;  // by shard
};

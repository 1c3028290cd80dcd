// What a checkpoint remembers of an open file.
#pragma once

#include "berth/checkpoint.h"
#include "planner/base/input_file.h"

namespace berth {

inline Shard shard_of(const File& file) {
  const FileIdentity& is = file.identity();
  return {is.path, is.file_bytes, is.device, is.inode, is.mtime_ns};
}

}  // namespace berth

// PyTorch's files (.bin, .pt, .pth) as a list of tensors that are byte ranges of the file.
//
// Two formats, told apart by their first bytes: the ZIP archive that torch.save writes since 1.6
// (`NAME/data.pkl` and a stored entry `NAME/data/KEY` for each storage; caffe2/serialize/
// inline_container.h), and the five pickles followed by storages that it wrote before
// (torch/serialization.py, _legacy_save). Both are read through a machine that executes nothing
// (pickle.h). Names that share a storage share a byte range, and views overlap.
#pragma once

#include <cstdint>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/base/byte_source.h"

namespace berth {

// Appends the file's tensors to `tensors`, by offset. Reads the directory, the pickles and the
// headers of the storages, never a byte of the weights (of a legacy file, whose pickles do not say
// how long they are, up to 64 KiB or three times the pickles behind them).
// Throws Error for every violation, naming file, tensor or entry, and byte of the file.
void read_torch_file(const ByteSource& file, std::uint32_t shard, const CheckpointLimits& limits,
                     std::vector<TensorInfo>& tensors);

}  // namespace berth

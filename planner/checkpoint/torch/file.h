// Reads PyTorch's files (.bin, .pt, .pth) as a list of tensors that are byte ranges of the file.
//
// There are two formats, told apart by their first bytes: the ZIP archive that torch.save has
// written since 1.6 (`NAME/data.pkl`, and a stored entry `NAME/data/KEY` for each storage;
// caffe2/serialize/inline_container.h), and the five pickles followed by storages that it wrote
// before (torch/serialization.py, _legacy_save). Both are read by a machine that executes nothing
// (pickle.h). Names that share a storage get the same byte range, and views of a storage overlap.
// Elements that do not stand one after another (a transposed, expanded or sliced view) get the
// range from the first to the last of them, and a StoredForm.
#pragma once

#include <cstdint>
#include <string_view>

#include "berth/checkpoint.h"
#include "planner/base/byte_source.h"
#include "planner/checkpoint/limits.h"

namespace berth {

// Whether a file that begins with `head` is in one of the two formats, or another zip archive.
bool is_torch_head(std::string_view head);

// Appends the file's tensors to those of `checkpoint`, in the order of their offsets, and their
// forms. `part` is as for find_state_dict(). Reads the directory, the
// pickles and the headers of the storages, but no byte of the weights. The exception is a file of
// the older format, whose pickles do not say how long they are: up to 64 KiB after them, or three
// times their length, are read as well. Throws Error for every violation; the message names the
// file, the tensor or entry, and the byte of the file.
void read_torch_file(const ByteSource& file, std::uint32_t shard, std::string_view part,
                     const CheckpointLimits& limits, Checkpoint& checkpoint);

}  // namespace berth

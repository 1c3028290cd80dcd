// Loading into memory that the caller owns: stored tensors, or boxes of them, each to an address of
// its own, converted on the way where that is asked for.
//
// What is loaded is seen as a checkpoint of its own, one tensor for each target, so that schedule
// and streamer do here what they do in load(): every byte that is needed is read once, however many
// targets want it, and nothing beyond a target is written to. What is in the page cache is read
// straight to its destination in host memory; what is not passes through staging, because O_DIRECT
// writes whole blocks. What goes to a GPU passes through page-locked staging, and what is converted
// on the way through a few MiB of the GPU's memory, besides the targets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "runtime/load/environment.h"

namespace berth {

struct LoadTarget {
  std::uint32_t source = 0;  // index into Checkpoint::tensors
  DType dtype = DType::kF32;
  std::byte* to = nullptr;  // for the bytes of target_bytes(), aligned to the element
  // The box of the tensor that is wanted: where it begins and how large it is, one number for each
  // dimension. Default: both are empty, all of it is wanted.
  Shape start = {};
  Shape size = {};
  int device = -1;  // whose memory `to` is in: the number of a CUDA device; -1: host memory
  // On a GPU: the stream whose work may still use that memory. The first copy waits for what the
  // stream has got by now. Default: CUDA's default stream.
  CudaStreamHandle stream = nullptr;
};

// How many bytes a target's elements take. Throws Error naming the tensor: the box is not within
// it, a box is asked for of a tensor that is stored in blocks or not in order, or there is no
// conversion to the dtype.
std::uint64_t target_bytes(const Checkpoint& checkpoint, const LoadTarget& target);

// Of `options`, io, staging, emulate, cancel and on_progress count. With `emulate`, `to` of a
// target on a GPU that is not here is host memory. The memory of targets must not overlap. All
// bytes are there when this returns, on GPUs too, so that any stream may use them. The calling
// thread's current device stays what it was.
//
// In the report are seconds, tensors, bytes read, how they were read, and host memory. Throws Error
// naming file, tensor and offset as load() does, also for a GPU that is not here and for memory
// that is not its own, before anything is read; Interrupted where it was asked to stop. Then what
// is in the targets' memory is undefined, and no thread, descriptor, read or copy is left.
LoadReport load_into(const Checkpoint& checkpoint, std::span<const LoadTarget> targets,
                     const LoadOptions& options, const LoadEnvironment& environment = {});

}  // namespace berth

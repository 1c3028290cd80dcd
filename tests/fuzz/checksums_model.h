// The model that the seeds in corpus/checksums are about.
#pragma once

#include "berth/checkpoint.h"

namespace berth {

inline Checkpoint checksums_model() {
  Checkpoint checkpoint;
  checkpoint.shards.resize(1);
  checkpoint.shards[0].path = "m.safetensors";
  checkpoint.shards[0].file_bytes = 24;
  for (const char* name : {"a", "b"}) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.begin = checkpoint.tensors.empty() ? 16 : 20;
    tensor.end = tensor.begin + 4;
    checkpoint.tensors.push_back(tensor);
  }
  return checkpoint;
}

}  // namespace berth

// Runs the reader of PyTorch files on arbitrary bytes. It must answer or throw Error, must read
// nothing outside the file, and every tensor of its answer must lie within the file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "berth/error.h"
#include "planner/checkpoint/torch/file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const berth::ByteSource source{"input", size,
                                 [&](std::uint64_t offset, char* out, std::uint64_t count) {
                                   if (offset > size || count > size - offset) std::abort();
                                   if (count > 0) std::memcpy(out, data + offset, count);
                                 }};
  try {
    berth::Checkpoint checkpoint;
    berth::read_torch_file(source, 0, "", {}, checkpoint);
    for (const auto& tensor : checkpoint.tensors) {
      if (tensor.begin > tensor.end || tensor.end > size) std::abort();
      const auto bytes = berth::tensor_bytes(tensor.dtype, tensor.shape);
      if (!bytes || tensor.form > checkpoint.forms.size()) std::abort();
      if (tensor.form == 0 && *bytes != tensor.bytes()) std::abort();
    }
  } catch (const berth::Error&) {
  }
  return 0;
}

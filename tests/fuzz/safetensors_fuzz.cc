// The safetensors header parser on arbitrary bytes: it answers or throws Error, and what it answers
// lies inside the file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "planner/checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  std::vector<berth::TensorInfo> tensors;
  try {
    berth::parse_safetensors_header(file, size, 0, "input", {}, tensors);
  } catch (const berth::Error&) {
    return 0;
  }
  std::uint64_t end = tensors.empty() ? 0 : tensors.front().begin;
  for (const berth::TensorInfo& tensor : tensors) {
    const auto bytes = berth::tensor_bytes(tensor.dtype, tensor.shape);
    if (tensor.begin != end || tensor.end > size || !bytes || *bytes != tensor.bytes())
      std::abort();
    end = tensor.end;
  }
  if (!tensors.empty() && end != size) std::abort();
  return 0;
}

// Runs the parser of GGUF heads on arbitrary bytes. It must answer or throw Error. The tensors of
// its answer must lie inside the file, must not overlap, and must have the size that their type and
// shape imply.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "berth/error.h"
#include "planner/checkpoint/gguf/header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const berth::GgufHeader header =
        berth::parse_gguf_header(size, "input", {}, [&](std::string& head, std::uint64_t wanted) {
          if (wanted > size) std::abort();
          head = file.substr(0, wanted);
        });
    std::uint64_t end = 0;
    for (const berth::GgufTensor& tensor : header.tensors()) {
      const auto bytes = berth::tensor_bytes(tensor.dtype, tensor.shape);
      if (tensor.begin < end || tensor.end > size || !bytes ||
          *bytes != tensor.end - tensor.begin) {
        std::abort();
      }
      end = tensor.end;
    }
    for (const char* key : {"general.architecture", "general.alignment", "a"}) {
      try {
        header.text(key);
        header.texts(key);
        header.integers(key);
        header.numbers(key);
      } catch (const berth::Error&) {
      }
    }
  } catch (const berth::Error&) {
  }
  return 0;
}

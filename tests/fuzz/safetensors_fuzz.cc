// Runs the safetensors header parser on arbitrary bytes. It must answer or throw Error, and its
// tensors must lie inside the file. The usual spelling has a reader of its own, which must give the
// same answer as the JSON parser.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "planner/checkpoint/safetensors/header.h"

namespace {

using Tensors = std::vector<berth::TensorInfo>;

std::optional<Tensors> parse(std::string_view file) {
  Tensors tensors;
  try {
    berth::parse_safetensors_header(file, file.size(), 0, "input", {}, tensors);
  } catch (const berth::Error&) {
    return std::nullopt;
  }
  return tensors;
}

// The same file with eight spaces after the first brace; "" if there can be no such file.
std::string respelled(std::string_view file) {
  constexpr std::size_t kLength = 8;
  constexpr std::size_t kSpaces = 8;
  if (file.size() <= kLength || file[kLength] != '{') return "";
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLength);
  if (length > file.size()) return "";
  length += kSpaces;
  std::string out(reinterpret_cast<const char*>(&length), kLength);
  return out.append("{").append(kSpaces, ' ').append(file.substr(kLength + 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const std::optional<Tensors> answer = parse(file);
  if (const std::string other = respelled(file); !other.empty()) {
    const std::optional<Tensors> same = parse(other);
    if (same.has_value() != answer.has_value()) std::abort();
    for (std::size_t i = 0; answer && i < answer->size(); ++i) {
      const berth::TensorInfo& a = (*answer)[i];
      const berth::TensorInfo& b = same->at(i);
      if (a.name != b.name || a.dtype != b.dtype || a.shape != b.shape || b.begin != a.begin + 8) {
        std::abort();
      }
    }
  }
  if (!answer) return 0;
  const Tensors& tensors = *answer;
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

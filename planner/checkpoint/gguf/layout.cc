#include "planner/checkpoint/gguf/layout.h"

#include <algorithm>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/gguf/types.h"
#include "planner/checkpoint/tile_layout.h"

namespace berth {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kLeastAlignment = 64;  // of a cache line, and of what kernels load at once
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::string_view kSplitNumberKey = "split.no";
constexpr std::string_view kSplitCountKey = "split.count";
constexpr std::string_view kSplitTensorsKey = "split.tensors.count";

template <typename Number>
void put(std::string& out, Number value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

// Metadata values, and how many there are.
struct Values {
  std::string bytes;
  std::uint64_t count = 0;

  template <typename Number>
  void add(std::string_view key, GgufType type, Number value) {
    put_text(bytes, key);
    put(bytes, static_cast<std::uint32_t>(type));
    put(bytes, value);
    ++count;
  }
};

// Whether this file says it in words of its own.
bool is_of_layout(std::string_view key) {
  for (const std::string_view own :
       {kAlignmentKey, kTilesKey, kSplitNumberKey, kSplitCountKey, kSplitTensorsKey}) {
    if (key == own) return true;
  }
  return false;
}

Values values_of(const GgufHeader& from, const GgufSplitNumber& split, std::uint64_t alignment) {
  Values values;
  if (split.number == 0) {
    for (const GgufHeader::Entry& entry : from.entries()) {
      if (is_of_layout(entry.key)) continue;
      values.bytes += entry.bytes;
      ++values.count;
    }
  }
  values.add(kAlignmentKey, GgufType::kU32, static_cast<std::uint32_t>(alignment));
  values.add(kTilesKey, GgufType::kU32, kTilesVersion);
  if (split.count > 1) {
    values.add(kSplitNumberKey, GgufType::kU16, static_cast<std::uint16_t>(split.number));
    values.add(kSplitCountKey, GgufType::kU16, static_cast<std::uint16_t>(split.count));
    values.add(kSplitTensorsKey, GgufType::kI32, static_cast<std::int32_t>(split.tensors));
  }
  return values;
}

std::uint32_t type_of(const GgufTensor& tensor) {
  const auto type = ggml_type_of(tensor.dtype);
  if (!type) {
    throw Error("tensor " + quote(tensor.name) + ": GGUF has no type for " +
                std::string(dtype_name(tensor.dtype)));
  }
  return *type + (tensor.tiled ? kTiledTypes : 0);
}

}  // namespace

GgufLayout lay_out_gguf(const GgufHeader& from, std::span<const GgufTensor> tensors,
                        const GgufSplitNumber& split) {
  const std::uint64_t alignment =
      std::max(kLeastAlignment, from.unsigned_integer(kAlignmentKey).value_or(kLeastAlignment));
  const auto aligned = [&](std::uint64_t offset) {
    return (offset + alignment - 1) / alignment * alignment;
  };
  const Values values = values_of(from, split, alignment);
  GgufLayout layout;
  std::string& head = layout.head;
  head = "GGUF";
  put(head, kVersion);
  put<std::uint64_t>(head, tensors.size());
  put(head, values.count);
  head += values.bytes;
  std::uint64_t end = 0;  // of the tensors so far, from the first one on
  for (const GgufTensor& tensor : tensors) {
    put_text(head, tensor.name);
    put(head, static_cast<std::uint32_t>(tensor.shape.size()));
    for (std::size_t i = tensor.shape.size(); i-- > 0;) put(head, tensor.shape[i]);
    put(head, type_of(tensor));
    put(head, end);
    layout.begin.push_back(end);
    const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!bytes || __builtin_add_overflow(end, *bytes, &end) || end > end + alignment) {
      throw Error("tensor " + quote(tensor.name) + ": its size overflows");
    }
    end = aligned(end);
  }
  head.resize(aligned(head.size()));
  for (std::uint64_t& begin : layout.begin) begin += head.size();
  if (__builtin_add_overflow(head.size(), end, &layout.file_bytes)) {
    throw Error("the size of what is to be written overflows");
  }
  return layout;
}

}  // namespace berth

#include "planner/checkpoint/safetensors/layout.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

// The reference's order of dtypes, but with the narrow ones first.
constexpr DType kNarrowFirst[] = {
    DType::kBool,       DType::kF4,     DType::kF6E2M3, DType::kF6E3M2, DType::kU8,
    DType::kI8,         DType::kF8E5M2, DType::kF8E4M3, DType::kF8E8M0, DType::kF8E4M3FNUZ,
    DType::kF8E5M2FNUZ, DType::kI16,    DType::kU16,    DType::kF16,    DType::kBF16,
    DType::kI32,        DType::kU32,    DType::kF32,    DType::kC64,    DType::kF64,
    DType::kI64,        DType::kU64,
};

std::ptrdiff_t rank_of(DType dtype) {
  return std::ranges::find(kNarrowFirst, dtype) - std::begin(kNarrowFirst);
}

// Appends `text` as a JSON string. Names have been checked to be UTF-8.
void append_quoted(std::string& out, std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\b') {
      out += "\\b";
    } else if (c == '\f') {
      out += "\\f";
    } else if (byte < 0x20) {
      out += {'\\', 'u', '0', '0', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      out += c;
    }
  }
  out += '"';
}

std::uint64_t bytes_of(const OutputTensor& tensor) {
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) throw Error("tensor " + quote(tensor.name) + ": its size overflows");
  return *bytes;
}

}  // namespace

SafetensorsLayout lay_out_safetensors(std::span<const OutputTensor> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    const std::ptrdiff_t left = rank_of(tensors[a].dtype);
    const std::ptrdiff_t right = rank_of(tensors[b].dtype);
    return left != right ? left > right : tensors[a].name < tensors[b].name;
  });

  SafetensorsLayout layout;
  layout.begin.resize(tensors.size());
  std::string json = R"({"__metadata__":{"format":"pt"})";
  std::uint64_t end = 0;
  for (const std::size_t i : order) {
    const OutputTensor& tensor = tensors[i];
    layout.begin[i] = end;
    json += ',';
    append_quoted(json, tensor.name);
    json += R"(:{"dtype":")" + std::string(dtype_name(tensor.dtype)) + R"(","shape":[)";
    for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
      json += (d == 0 ? "" : ",") + std::to_string(tensor.shape[d]);
    }
    json += R"(],"data_offsets":[)" + std::to_string(end) + ',';
    if (__builtin_add_overflow(end, bytes_of(tensor), &end)) {
      throw Error("tensor " + quote(tensor.name) + ": the file's size overflows");
    }
    json += std::to_string(end) + "]}";
  }
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');

  for (std::size_t i = 0; i < 8; ++i) layout.header += static_cast<char>(json.size() >> (8 * i));
  layout.header += json;
  for (std::uint64_t& begin : layout.begin) begin += layout.header.size();
  layout.file_bytes = layout.header.size() + end;
  return layout;
}

std::string safetensors_index(std::span<const OutputTensor> tensors,
                              std::span<const std::string> shards) {
  std::map<std::string_view, std::string_view> sorted;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    sorted.emplace(tensors[i].name, shards[i]);
    bytes += bytes_of(tensors[i]);
  }
  std::string json = "{\n  \"metadata\": {\n    \"total_size\": " + std::to_string(bytes) +
                     "\n  },\n  \"weight_map\": {";
  const char* between = "\n    ";
  for (const auto& [name, shard] : sorted) {
    json += between;
    append_quoted(json, name);
    json += ": ";
    append_quoted(json, shard);
    between = ",\n    ";
  }
  return json += "\n  }\n}\n";
}

}  // namespace berth

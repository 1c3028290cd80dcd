#include "runtime/generate/logits_file.h"

#include <bit>
#include <string>
#include <string_view>
#include <utility>

namespace berth {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

namespace {

std::string_view bytes_of(const void* data, std::size_t count) {
  return {static_cast<const char*>(data), count};
}

}  // namespace

LogitsFile::LogitsFile(std::filesystem::path path, std::uint64_t positions,
                       std::uint64_t vocabulary)
    : file_(std::move(path)) {
  const std::string shape = std::to_string(positions) + "," + std::to_string(vocabulary);
  const std::string bytes = std::to_string(positions * vocabulary * sizeof(float));
  std::string header =
      R"({"logits":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[0,)" + bytes + "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // keeps the data aligned
  const std::uint64_t length = header.size();
  file_.write(bytes_of(&length, sizeof length));
  file_.write(header);
}

void LogitsFile::append(std::span<const float> rows) {
  file_.write(bytes_of(rows.data(), rows.size_bytes()));
}

void LogitsFile::finish() { file_.finish(); }

}  // namespace berth

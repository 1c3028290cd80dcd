#include "planner/checkpoint/open/weight_formats.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/checkpoint/safetensors/header.h"
#include "planner/checkpoint/shard_of.h"
#include "planner/checkpoint/stand_in.h"
#include "planner/checkpoint/torch/file.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

void check_count(const Checkpoint& checkpoint, const std::vector<fs::path>& files,
                 const CheckpointLimits& limits) {
  if (files.size() <= limits.shards) return;
  throw Error(checkpoint.folder.string() + ": more than " + std::to_string(limits.shards) +
              " shards");
}

// The length of the file's header, whose first eight bytes are `first`.
std::uint64_t header_length(const File& file, std::string_view first,
                            const CheckpointLimits& limits) {
  const std::string source = file.identity().path.string();
  try {
    return read_header_length(first, file.size(), source, limits);
  } catch (const Error&) {
    // More than the header is read only if this is no safetensors file, to say what it is instead.
    std::string head(std::min(file.size(), kStandInBytes), '\0');
    file.read_exactly(0, head.data(), head.size());
    refuse_stand_in(head, source);
    throw;
  }
}

void read_safetensors_files(Checkpoint& checkpoint, const std::vector<fs::path>& files,
                            const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  HeaderParser parser;
  std::vector<char> buffer;
  for (const fs::path& path : files) {
    const File file(path);
    const std::string source = path.string();
    // Two calls read exactly the header, and not one byte of the weights behind it.
    char first[8] = {};
    file.read_exactly(0, first, std::min<std::uint64_t>(sizeof first, file.size()));
    const std::uint64_t length = header_length(file, {first, sizeof first}, limits);
    buffer.resize(length + simdjson::SIMDJSON_PADDING);
    file.read_exactly(sizeof first, buffer.data(), length);
    std::fill_n(buffer.data() + length, simdjson::SIMDJSON_PADDING, '\0');
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    parser.parse({buffer.data(), length}, file.size(), shard, source, limits, checkpoint.tensors);
    checkpoint.shards.push_back(shard_of(file));
  }
}

void read_torch_files(Checkpoint& checkpoint, const std::vector<fs::path>& files,
                      const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  for (const fs::path& path : files) {
    const File file(path);
    const ByteSource source{path.string(), file.size(),
                            [&](std::uint64_t offset, char* out, std::uint64_t count) {
                              file.read_exactly(offset, out, count);
                            }};
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    read_torch_file(source, shard, limits, checkpoint.tensors);
    checkpoint.shards.push_back(shard_of(file));
  }
}

constexpr std::string_view kSafetensors[] = {".safetensors"};
constexpr std::string_view kTorch[] = {".bin", ".pt", ".pth"};

constexpr WeightFormat kFormats[] = {
    {CheckpointFormat::kSafetensors, kSafetensors, "model.safetensors",
     "model.safetensors.index.json", "", read_safetensors_files},
    {CheckpointFormat::kTorch, kTorch, "pytorch_model.bin", "pytorch_model.bin.index.json",
     "pytorch_model", read_torch_files},
};

}  // namespace

std::span<const WeightFormat> weight_formats() { return kFormats; }

const WeightFormat* weight_format_of(const fs::path& file) {
  const std::string extension = file.extension().string();
  for (const WeightFormat& format : kFormats) {
    if (std::ranges::find(format.extensions, extension) != format.extensions.end()) return &format;
  }
  return nullptr;
}

}  // namespace berth

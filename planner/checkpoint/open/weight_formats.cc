#include "planner/checkpoint/open/weight_formats.h"

#include <algorithm>
#include <system_error>
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
                            const std::string& part, const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  if (!part.empty()) {
    throw Error(files[0].string() + "@" + part +
                ": a safetensors file holds one set of tensors, so '@' names nothing in it");
  }
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
                      const std::string& part, const CheckpointLimits& limits) {
  check_count(checkpoint, files, limits);
  for (const fs::path& path : files) {
    const File file(path);
    const ByteSource source{path.string(), file.size(),
                            [&](std::uint64_t offset, char* out, std::uint64_t count) {
                              file.read_exactly(offset, out, count);
                            }};
    const auto shard = static_cast<std::uint32_t>(checkpoint.shards.size());
    read_torch_file(source, shard, part, limits, checkpoint);
    checkpoint.shards.push_back(shard_of(file));
  }
}

bool begins_like_safetensors(std::string_view head, std::uint64_t bytes) {
  constexpr std::size_t kLength = 8;
  if (head.size() <= kLength) return false;
  try {
    read_header_length(head, bytes, "", {});
  } catch (const Error&) {
    return false;
  }
  return head[kLength] == '{';
}

bool begins_like_torch(std::string_view head, std::uint64_t) { return is_torch_head(head); }

constexpr std::string_view kSafetensors[] = {".safetensors"};
constexpr std::string_view kTorch[] = {".bin", ".pt", ".pth"};

constexpr WeightFormat kFormats[] = {
    {CheckpointFormat::kSafetensors, kSafetensors, "model.safetensors",
     "model.safetensors.index.json", "", "diffusion_pytorch_model", begins_like_safetensors,
     read_safetensors_files},
    {CheckpointFormat::kTorch, kTorch, "pytorch_model.bin", "pytorch_model.bin.index.json",
     "pytorch_model", "diffusion_pytorch_model", begins_like_torch, read_torch_files},
};

}  // namespace

std::span<const WeightFormat> weight_formats() { return kFormats; }

std::string head_of(const fs::path& file) {
  try {
    const File opened(file);
    std::string head(std::min(opened.size(), kStandInBytes), '\0');
    opened.read_exactly(0, head.data(), head.size());
    return head;
  } catch (const Error&) {
    return "";
  }
}

bool is_unnamed(const fs::path& file) {
  constexpr std::string_view kKnown[] = {".json", ".yaml", ".yml", ".txt", ".md"};
  const std::string extension = file.extension().string();
  return std::ranges::find(kKnown, extension) == std::end(kKnown);
}

const WeightFormat* weight_format_of(const fs::path& file) {
  const std::string extension = file.extension().string();
  for (const WeightFormat& format : kFormats) {
    if (std::ranges::find(format.extensions, extension) != format.extensions.end()) return &format;
  }
  if (!is_unnamed(file)) return nullptr;
  const std::string head = head_of(file);
  std::error_code ignored;
  const std::uint64_t bytes = head.empty() ? 0 : fs::file_size(file, ignored);
  for (const WeightFormat& format : kFormats) {
    if (format.begins(head, bytes)) return &format;
  }
  return nullptr;
}

}  // namespace berth

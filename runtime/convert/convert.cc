// convert(): lays out safetensors files; write_files() fills them.
#include <utility>

#include "berth/error.h"
#include "berth/loader.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/safetensors/layout.h"
#include "runtime/convert/shard_names.h"
#include "runtime/convert/write_files.h"

namespace berth {
namespace {

// Divides the tensors, in their order, among files: which are in each.
std::vector<std::vector<std::size_t>> divide(const std::vector<OutputTensor>& tensors,
                                             std::uint64_t most_bytes) {
  std::vector<std::vector<std::size_t>> shards;
  FilesBySize files(most_bytes);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = tensor_bytes(tensors[i].dtype, tensors[i].shape);
    if (!bytes) throw Error("tensor " + quote(tensors[i].name) + ": its size overflows");
    if (files.begins(*bytes)) shards.emplace_back();
    shards.back().push_back(i);
  }
  return shards;
}

FilesToWrite lay_out(const Checkpoint& checkpoint, const std::vector<ConvertTensor>& tensors,
                     std::uint64_t most_bytes) {
  std::vector<OutputTensor> outputs;
  outputs.reserve(tensors.size());
  for (const ConvertTensor& tensor : tensors) {
    outputs.push_back({tensor.name, tensor.dtype, checkpoint.tensors.at(tensor.source).shape});
  }
  const auto shards = divide(outputs, most_bytes);
  FilesToWrite wanted;
  std::vector<std::string> file_of(tensors.size());
  std::vector<std::uint64_t> begin(tensors.size());  // in the file
  for (std::size_t i = 0; i < shards.size(); ++i) {
    OutputFile file;
    file.name = shard_name(i, shards.size(), ".safetensors");
    std::vector<OutputTensor> own;
    for (const std::size_t tensor : shards[i]) own.push_back(outputs[tensor]);
    SafetensorsLayout layout = lay_out_safetensors(own);
    file.head = std::move(layout.header);
    file.bytes = layout.file_bytes;
    for (std::size_t k = 0; k < shards[i].size(); ++k) {
      begin[shards[i][k]] = layout.begin[k];
      file_of[shards[i][k]] = file.name;
    }
    wanted.files.push_back(std::move(file));
  }
  set_bases(wanted.files);
  wanted.tensors.resize(tensors.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const std::size_t k : shards[i]) {
      wanted.tensors[k] = {tensors[k].name, tensors[k].source, tensors[k].dtype,
                           wanted.files[i].base + begin[k]};
    }
  }
  if (shards.size() > 1) {
    wanted.texts.push_back(
        {"model.safetensors.index.json", {}, safetensors_index(outputs, file_of)});
  }
  return wanted;
}

}  // namespace

ConvertReport convert(const Checkpoint& checkpoint, const std::vector<ConvertTensor>& tensors,
                      const std::vector<Companion>& companions, const std::filesystem::path& out,
                      const ConvertOptions& options) {
  check_convert_options(options);
  if (tensors.empty()) throw Error(checkpoint.folder.string() + ": holds no tensor to convert");
  return write_files(checkpoint, lay_out(checkpoint, tensors, options.max_shard_bytes), companions,
                     out, options);
}

}  // namespace berth

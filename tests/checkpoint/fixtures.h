// Makes checkpoints for tests: a temporary folder, and safetensors files whose data is a hole.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "berth/tensor.h"

namespace berth::test {

// A temporary folder. It is deleted together with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "berth-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

struct FakeTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// Writes a valid file of the true size, whose data takes no space on the disk. Returns its size in
// bytes.
inline std::uint64_t write_safetensors(const std::filesystem::path& path,
                                       const std::vector<FakeTensor>& tensors) {
  std::string header = "{";
  std::uint64_t offset = 0;
  for (const FakeTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor_bytes(tensor.dtype, tensor.shape).value();
    if (header.size() > 1) header += ',';
    header += '"' + tensor.name + R"(":{"dtype":")" + std::string(dtype_name(tensor.dtype)) +
              R"(","shape":[)";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (i != 0) header += ',';
      header += std::to_string(tensor.shape[i]);
    }
    header += R"(],"data_offsets":[)" + std::to_string(offset) + ',' +
              std::to_string(offset + bytes) + "]}";
    offset += bytes;
  }
  header += '}';
  std::ofstream out(path, std::ios::binary);
  for (int i = 0; i < 8; ++i) out.put(static_cast<char>(header.size() >> (8 * i)));
  out << header;
  out.close();
  std::filesystem::resize_file(path, 8 + header.size() + offset);
  return 8 + header.size() + offset;
}

// The text of an index that maps each tensor to a shard.
inline std::string index_json(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string map;
  for (const auto& [tensor, shard] : entries) {
    map += (map.empty() ? "\"" : ",\"") + tensor + "\":\"" + shard + '"';
  }
  return R"({"metadata":{},"weight_map":{)" + map + "}}";
}

}  // namespace berth::test
